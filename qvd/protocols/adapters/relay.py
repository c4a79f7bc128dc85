# -*- test-case-name: tests.unit.test_adapters_relay -*-
"""
From a client to the nxagent in its VM, and back.

nxagent takes exactly one connection, so it is dialed once, when it says that it waits, and never probed. The relay
then copies bytes both ways. Each side holds the other back while it cannot take more. The end of one side is passed on
behind its last bytes, and ends the session; what the other one has still to say is delivered, within the transports'
time limits: C{docs/decisions/0004-half-close.md}.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from enum import Enum

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.model.errors import GuestError
from qvd.protocols.adapters.sockets import ISocketReactor, SocketName, SocketTransport

RETRY_PAUSE = 0.05
CONNECT_SECONDS = 5.0
CLIENT_CLOSED = "The client closed the connection ({})"
GUEST_CLOSED = "The X session closed the connection ({})"


class EndedBy(Enum):
    CLIENT = "client"
    GUEST = "guest"
    ABORT = "abort"


@frozen
class RelayOutcome:
    """How a session went.

    @ivar reason: a sentence for logs and the session's row.
    @ivar from_client: bytes that the client sent.
    @ivar from_guest: bytes that the guest sent.
    """

    ended_by: EndedBy
    reason: str
    from_client: int
    from_guest: int


class GuestLeg(Protocol):
    """The connection to nxagent. Held back until a L{Relay} takes it."""

    transport: SocketTransport

    def __init__(self) -> None:
        self.lost: Callable[[Failure], None] = lambda reason: None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost(reason)

    def abort(self) -> None:
        """Close it now, for when there will be no relay."""
        self.transport.abortConnection()


class Relay:
    """Joins a client and a guest.

    It is the receiver of the client's side: all that comes from there is passed to C{dataReceived} and
    C{connectionLost}.
    """

    def __init__(self, client: SocketTransport, guest: GuestLeg, finished: Callable[[RelayOutcome], None]) -> None:
        """
        @param finished: called once, when both connections are gone.
        """
        self._client = client
        self._guest = guest
        self._finished = finished
        self._to_guest = guest.transport.write
        self._to_client = client.write
        self._from_client = 0
        self._from_guest = 0
        self._open = 2
        self._end: tuple[EndedBy, str] | None = None

    def start(self, first_bytes: bytes = b"") -> None:
        """Begin.

        @param first_bytes: what the client has already sent.
        """
        guest, client = self._guest.transport, self._client
        self._guest.lost = self._guest_lost
        self._guest.dataReceived = self._guest_data  # type: ignore[method-assign]  # one call less a chunk
        guest.on_peer_end(self._guest_ended)
        client.on_peer_end(self._client_ended)
        guest.registerProducer(client, True)
        client.registerProducer(guest, True)
        client.resumeProducing()
        guest.resumeProducing()
        if first_bytes:
            self.dataReceived(first_bytes)

    def abort(self, reason: str) -> None:
        """End both connections now, whatever is on its way."""
        self._note(EndedBy.ABORT, reason)
        self._client.abortConnection()
        self._guest.abort()

    def dataReceived(self, data: bytes) -> None:
        """From the client."""
        self._from_client += len(data)
        self._to_guest(data)

    def connectionLost(self, reason: Failure) -> None:
        """The client's connection is gone."""
        self._note(EndedBy.CLIENT, CLIENT_CLOSED.format(reason.getErrorMessage()))
        self._guest.transport.loseConnection()
        self._side_gone()

    def _client_ended(self) -> None:
        """The client has said its last, and may wait for an answer."""
        self._note(EndedBy.CLIENT, CLIENT_CLOSED.format(CONNECTION_DONE))
        self._guest.transport.loseWriteConnection()

    def _guest_data(self, data: bytes) -> None:
        self._from_guest += len(data)
        self._to_client(data)

    def _guest_lost(self, reason: Failure) -> None:
        self._note(EndedBy.GUEST, GUEST_CLOSED.format(reason.getErrorMessage()))
        self._client.loseConnection()
        self._side_gone()

    def _guest_ended(self) -> None:
        self._note(EndedBy.GUEST, GUEST_CLOSED.format(CONNECTION_DONE))
        self._client.loseWriteConnection()

    def _note(self, ended_by: EndedBy, reason: str) -> None:
        if self._end is None:
            self._end = (ended_by, reason)

    def _side_gone(self) -> None:
        self._open -= 1
        if self._open == 0 and self._end is not None:
            self._finished(RelayOutcome(*self._end, self._from_client, self._from_guest))


@implementer(IWriteDescriptor)
class _Connecting:
    """A connect that is under way."""

    def __init__(self, connecting: socket.socket, reactor: ISocketReactor) -> None:
        self._socket = connecting
        self._reactor = reactor
        self.done: Deferred[int] = Deferred(lambda _: self._reactor.removeWriter(self))
        reactor.addWriter(self)

    def doWrite(self) -> None:
        self._reactor.removeWriter(self)
        if not self.done.called:
            self.done.callback(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def connectionLost(self, reason: Failure) -> None:
        """An error event instead of a writable one: the socket knows which."""
        self.doWrite()

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return type(self).__name__


def _resolve(address: str, port: int) -> tuple[int, SocketName]:
    """Family and socket address of a numeric address: a name would block, or lead to two attempts.

    @raise GuestError: it is not one.
    """
    try:
        family, _, _, _, name = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise GuestError(f"The VM's address {address!r} is not an IP address") from error
    return family, name  # type: ignore[return-value]  # typeshed leaves room for other families


async def connect_guest(
    reactor: ISocketReactor,
    address: str,
    port: int,
    retry_seconds: float = 2.0,
    connect_seconds: float = CONNECT_SECONDS,
) -> GuestLeg:
    """Dial nxagent: one connection, and no second one after it. A refusal is tried again for a while, since nxagent
    says that it waits just before it does.

    @raise GuestError: refused for too long, unreachable, or no answer.
    """
    family, name = _resolve(address, port)
    until = reactor.seconds() + retry_seconds
    while True:
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            failed = await _connect(reactor, connected, name, connect_seconds)
        except BaseException:
            connected.close()
            raise
        if not failed:
            leg = GuestLeg()
            leg.makeConnection(SocketTransport(connected, leg, name, reactor))  # type: ignore[no-untyped-call]
            return leg
        connected.close()
        if failed != errno.ECONNREFUSED or reactor.seconds() >= until:
            raise GuestError(f"Cannot connect to the X session at {address}:{port}: {os.strerror(failed)}")
        await deferLater(reactor, RETRY_PAUSE)


async def _connect(reactor: ISocketReactor, connecting: socket.socket, name: SocketName, seconds: float) -> int:
    """The error number of the attempt; 0 is success."""
    connecting.setblocking(False)
    failed = connecting.connect_ex(name)
    if failed != errno.EINPROGRESS:
        return failed
    attempt = _Connecting(connecting, reactor)
    return await attempt.done.addTimeout(seconds, reactor, lambda result, _: errno.ETIMEDOUT)
