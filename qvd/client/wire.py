# -*- test-case-name: tests.unit.test_client_wire -*-
"""
One connection to the L7R, as the client sees it: requests and answers one after the other, then raw NX.

Nothing is sent before the server has proved to be the right one, and each wait has a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.client.errors import ClientError, Exit, plain
from qvd.client.tls import ServerTLS
from qvd.protocols.adapters.heads import ConnectionClosed, ResponseClient
from qvd.protocols.http1 import RemoteProtocolError, Response
from qvd.protocols.l7r import VM_INFO

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024
DIAL_SECONDS = 20.0

Progress = Callable[[str], None]


@frozen
class Taker:
    """Who gets the bytes after HTTP, and the end."""

    dataReceived: Callable[[bytes], None]
    connectionLost: Callable[[Failure], None]


@implementer(IHandshakeListener)
class ServerConnection(ResponseClient):
    """The client's end.

    @ivar ready: fires when the server has proved to be the right one, or fails with a L{ClientError}.
    @ivar gone: fires when the connection is no more.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, tls: ServerTLS) -> None:
        super().__init__(clock, HEAD_LIMIT, BODY_LIMIT)
        self.ready: Deferred[None] = Deferred(lambda _: self.abort())
        self.gone: Deferred[None] = Deferred()
        self._tls = tls

    def handshakeCompleted(self) -> None:
        try:
            self._tls.check(self.transport.getHandle())
        except ClientError as error:
            self._decide(error)
            self.abort()
        else:
            self._decide(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._decide(self._closed_early())
        self.gone.callback(None)

    async def exchange(self, request: bytes, seconds: float, progress: Progress) -> Response:
        """Send a request and return its final answer.

        @param seconds: for each part of the answer: what the server reports on the way starts the time anew.
        @raise ClientError: no answer, or one that cannot be understood.
        """
        self.send(request)
        while True:
            response = await self._answer(seconds)
            if response.head.status == 101 or response.head.status >= 200:
                return response
            text = response.head.header(VM_INFO)
            if text:
                progress(plain(text))

    def attach(self, receive: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """HTTP is over: give all bytes, and the end, to somebody else."""
        try:
            _, rest = self.hand_over()
        except ConnectionClosed:
            lost(self._lost or connectionDone)
            return
        if rest:
            receive(rest)
        self.set_receiver(Taker(receive, lost))

    async def finish(self) -> None:
        """End the connection, in good order if the server plays along."""
        self.close()
        await self.gone

    async def _answer(self, seconds: float) -> Response:
        try:
            return await Deferred.fromCoroutine(self.receive()).addTimeout(seconds, self._clock)
        except DeferredTimeout:
            raise ClientError(Exit.UNREACHABLE, f"The server has not answered in {seconds:g} s") from None
        except ConnectionClosed:
            raise self._closed_early() from None
        except RemoteProtocolError as error:
            raise ClientError(Exit.REFUSED, f"The server's answer cannot be understood: {error}") from None

    def _closed_early(self) -> ClientError:
        # With TLS 1.3 a handshake can look complete here and still be refused there.
        if self._lost is not None and isinstance(self._lost.value, SSL.Error):
            return ClientError(Exit.UNREACHABLE, self._tls.explain())
        return ClientError(Exit.UNREACHABLE, "The server closed the connection before it had answered")

    def _decide(self, error: ClientError | None) -> None:
        if self.ready.called:
            return
        if error is None:
            self.ready.callback(None)
        else:
            self.ready.errback(error)


async def dial(reactor: Any, host: str, port: int, tls: ServerTLS) -> ServerConnection:
    """Connect, and make sure of the server.

    @raise ClientError: it cannot be reached in time, or is not the one.
    """
    work = Deferred.fromCoroutine(_dial(reactor, host, port, tls))
    try:
        return await work.addTimeout(DIAL_SECONDS, reactor)
    except DeferredTimeout:
        text = f"{host}:{port} did not answer in {DIAL_SECONDS:g} s"
    except (ConnectError, DNSLookupError, ValueError) as error:
        text = f"{host}:{port} cannot be reached: {plain(str(error)).rstrip('.')}"
    raise ClientError(Exit.UNREACHABLE, text)


async def _dial(reactor: Any, host: str, port: int, tls: ServerTLS) -> ServerConnection:
    endpoint = wrapClientTLS(tls, HostnameEndpoint(reactor, host, port, timeout=DIAL_SECONDS))
    made: list[ServerConnection] = []

    def build() -> ServerConnection:
        made.append(ServerConnection(reactor, tls))
        return made[-1]

    await endpoint.connect(Factory.forProtocol(build))
    await made[-1].ready
    return made[-1]
