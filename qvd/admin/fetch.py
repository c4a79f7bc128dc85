# -*- test-case-name: tests.admin.test_imports -*-
"""
Fetching a file from the Internet by somebody else's wish.

The name is resolved here, its addresses are checked, and the connection goes to a checked address itself: so neither a
redirection nor a name that means something else a moment later leads to what is behind this machine.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from qvd.admin.bodies import BodyLost, BodyStream
from qvd.model.errors import InvalidRequest, QVDError, Unavailable
from qvd.model.outbound import Network, is_allowed

HOPS = 5
CONNECT_SECONDS = 30.0
MOST_ADDRESSES = 32
LONGEST_MARK = 256
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host's name."""


class AddressRefused(InvalidRequest):
    """The address is not one that may be called."""

    code = "address_refused"


def checked_url(url: str) -> str:
    """@raise InvalidRequest: it is none that a file can be fetched from."""
    if not url.isascii() or any(ord(each) <= 32 or ord(each) == 127 for each in url):
        raise InvalidRequest("The URL holds a character that URLs do not have")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("That is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest("Only URLs of http and https can be fetched")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("The URL must not hold a name and a password")
    if port == 0:
        raise InvalidRequest("That is no URL")
    return url


def system_resolver(run: Callable[..., Deferred[Any]]) -> Resolve:
    """The machine's resolver, in a thread."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        found = await run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    return resolve


@define
class Fetcher:
    """Fetches files.

    @ivar resolve: finds the addresses of a name.
    @ivar allowed: private networks that may be called nevertheless.
    @ivar silence: seconds without a byte after which a server is given up.
    @ivar trust: root certificates of servers; L{None}: the machine's.
    """

    reactor: Any
    resolve: Resolve
    allowed: Sequence[Network] = ()
    silence: float = 60.0
    trust: Any = None

    async def open(self, url: str, start: int = 0, mark: str = "") -> Download:
        """Ask for it, and follow where the server sends us.

        @param start: the first byte that is wanted, if the file is still the one with that C{mark}; else it comes
            from its beginning.
        @raise AddressRefused: that leads to an address that may not be called.
        @raise Unavailable: the server does not give it.
        """
        for _ in range(HOPS + 1):
            response = await self._request(url, start, mark)
            if response.code not in (301, 302, 303, 307, 308):
                break
            abandon(response)
            places = response.headers.getRawHeaders(b"location") or []
            if not places:
                raise Unavailable("The server redirects to nowhere")
            following = checked_url(urljoin(url, places[0].decode("latin-1")))
            if url.startswith("https:") and not following.startswith("https:"):
                raise AddressRefused("The server redirects from https to http")
            url = following
        else:
            raise Unavailable(f"The server redirects more than {HOPS} times")
        if response.code == 200:
            start = 0
        elif response.code != 206 or not begins_at(response, start):
            abandon(response)
            raise Unavailable(f"The server answered {response.code}")
        length = response.length + start if isinstance(response.length, int) else None
        return Download(self.reactor, response, length, self.silence, start)

    async def _request(self, url: str, start: int = 0, mark: str = "") -> Any:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._address(host, port)
        where = Checked(self.reactor, address, host, port, self.trust)
        agent = Agent.usingEndpointFactory(self.reactor, where)  # type: ignore[no-untyped-call]
        headers = Headers({b"user-agent": [b"qvd"], b"accept": [b"*/*"], b"accept-encoding": [b"identity"]})
        if start and mark:
            # RFC 9110, section 13.1.5: all of it, where it is another one by now.
            headers.setRawHeaders(b"range", [f"bytes={start}-".encode()])
            headers.setRawHeaders(b"if-range", [mark.encode("latin-1")])
        asking = agent.request(b"GET", url.encode("ascii"), headers)
        asking.addTimeout(self.silence, self.reactor)
        try:
            return await asking
        except QVDError:
            raise
        except Exception as error:  # whatever the network says, in one sentence
            name = type(error).__name__
            raise Unavailable(f"The server cannot be reached, or does not answer ({name})") from error

    async def _address(self, host: str, port: int) -> str:
        """An address of the host, all of which may be called."""
        try:
            looking = Deferred.fromCoroutine(as_coroutine(self.resolve(host, port)))
            found = (await looking.addTimeout(self.silence, self.reactor))[:MOST_ADDRESSES]
        except OSError:
            raise Unavailable("The server's name is not known") from None
        if not found:
            raise Unavailable("The server's name is not known")
        try:
            refused = [each for each in found if not is_allowed(each, self.allowed)]
        except ValueError:
            refused = list(found)
        if refused:
            # Which one it is stays unsaid: that would tell what is behind this machine.
            raise AddressRefused("The URL leads to an address that is not allowed")
        return str(found[0])


async def as_coroutine(waiting: Awaitable[Any]) -> Any:
    return await waiting


@implementer(IAgentEndpointFactory)
@define
class Checked:
    """Connects to the address that was checked, and to no other; the certificate must be the name's."""

    reactor: Any
    address: str
    host: str
    port: int
    trust: Any = None

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        """Where the agent goes."""
        if (uri.host.decode("ascii").strip("[]").lower(), uri.port) != (self.host.lower(), self.port):
            raise AddressRefused("That is not the address that was checked")
        kind = TCP6ClientEndpoint if ":" in self.address else TCP4ClientEndpoint
        endpoint = kind(self.reactor, self.address, self.port, timeout=CONNECT_SECONDS)
        if uri.scheme == b"https":
            return wrapClientTLS(optionsForClientTLS(self.host, trustRoot=self.trust), endpoint)
        return endpoint


def header(response: Any, name: bytes) -> str:
    """The only one of that name; empty: there is none, or several."""
    found = response.headers.getRawHeaders(name) or []
    return found[0].decode("latin-1") if len(found) == 1 else ""


def begins_at(response: Any, start: int) -> bool:
    """Whether the server sends what it was asked for."""
    return start > 0 and header(response, b"content-range").startswith(f"bytes {start}-")


def strong_mark(response: Any) -> str:
    """What names this very version of the file, if the server tells: a strong entity tag."""
    found = header(response, b"etag")
    return found if found.startswith('"') and len(found) <= LONGEST_MARK else ""


def abandon(response: Any) -> None:
    """Nobody wants the body: end the connection."""
    response.deliverBody(Closing())


class Closing(Protocol):
    """Closes the connection at once."""

    def connectionMade(self) -> None:
        """As soon as there is one."""
        transport: Any = self.transport
        transport.stopProducing()


class Download(Protocol):
    """What the server sends, as a L{qvd.admin.bodies.Body}.

    @ivar length: of the whole file, that the server has announced.
    @ivar start: the first byte that comes.
    @ivar mark: of this version of the file; empty: there is none.
    """

    def __init__(self, reactor: Any, response: Any, length: int | None, silence: float, start: int = 0) -> None:
        self._reactor = reactor
        self._silence = silence
        self.length = length
        self.start = start
        self.mark = strong_mark(response)
        self._transport: Any = None
        self._stream = BodyStream(length, self._pause, self._resume)
        response.deliverBody(self)

    def connectionMade(self) -> None:
        """The body can come."""
        self._transport = self.transport
        self._transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self._stream.feed(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or not. Without a length, whether that was all is seen by the checksum only."""
        self._transport = None
        end = reason.value
        if isinstance(end, ResponseDone) or (isinstance(end, PotentialDataLoss) and self.length is None):
            self._stream.end()
        else:
            self._stream.lose("The server ended the connection before the file did")

    async def read(self) -> bytes:
        """As in L{qvd.admin.bodies.Body}.

        @raise Unavailable: the connection ended, or nothing came for too long.
        """
        timer = self._reactor.callLater(self._silence, self._stream.lose, "The server has fallen silent")
        try:
            return await self._stream.read()
        except BodyLost as error:
            self.close()
            raise Unavailable(str(error)) from None
        finally:
            if timer.active():
                timer.cancel()

    def close(self) -> None:
        """Nothing more is wanted."""
        if self._transport is not None:
            self._transport.stopProducing()

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pauseProducing()

    def _resume(self) -> None:
        if self._transport is not None:
            self._transport.resumeProducing()
