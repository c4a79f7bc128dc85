# -*- test-case-name: tests.unit.test_adapters_relay -*-
"""
A connected TCP socket in the reactor.

The reactor's own TCP transport copies each chunk into a queue and waits for the next writable event; on the way of a
desktop session that doubles the cost of a small message. This one sends at once when nothing is queued, and its
closing is bounded: by time, whatever the peer does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from enum import Enum, auto

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IProducer,
    IProtocol,
    IPushProducer,
    IReactorFDSet,
    IReactorTime,
    IReadWriteDescriptor,
    ITCPTransport,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

READ_BUFFER = memoryview(bytearray(262144))
"""All plain sockets read into this one: large for bulk, and a small chunk does not pay for it with a large object."""
HIGH_WATER = 65536
"""Bytes not sent yet that pause the producer. What it has just delivered comes on top."""
FLUSH_SECONDS = 10.0
"""For a closed connection's last bytes. After that they are dropped."""
LINGER_SECONDS = 2.0
"""For the peer's own end, after ours was sent. Closing with unread bytes would reset the connection, and the reset
would overtake our last bytes."""
HALF_OPEN_SECONDS = 10.0
"""For all that the peer has still to say, after C{loseWriteConnection} has sent our end."""
LINGER_BYTES = 1 << 20
"""A peer that has more to say than this is not waiting for our last bytes."""
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
"""A peer that vanished while nothing was said is noticed within two minutes."""
UNACKNOWLEDGED_SECONDS = 120
"""One that vanished with bytes on their way, or that has taken none for so long. The kernel's own limit is a quarter of
an hour, and keep-alive does not count meanwhile."""


class ISocketReactor(IReactorFDSet, IReactorTime):
    """What sockets need of the reactor."""


class Phase(Enum):
    """
    @cvar ENDING: nothing more is taken to be sent; the last bytes go out, and what comes in is still wanted.
    @cvar ENDED: the peer was told that this was all.
    @cvar FLUSHING: the last bytes go out; what comes in is not wanted any more.
    @cvar LINGERING: all was sent; the peer's own end is waited for.
    """

    OPEN = auto()
    ENDING = auto()
    ENDED = auto()
    FLUSHING = auto()
    LINGERING = auto()
    ABORTED = auto()
    GONE = auto()


RECEIVING = frozenset({Phase.OPEN, Phase.ENDING, Phase.ENDED})
"""Phases in which what comes in is delivered."""


SocketName = tuple[str, int] | tuple[str, int, int, int]


def to_address(name: SocketName) -> IPv4Address | IPv6Address:
    """A socket's name, as Twisted's value."""
    return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)


def failure_of(error: Exception) -> Failure:
    """The error as C{connectionLost} takes it."""
    return Failure(error)  # type: ignore[no-untyped-call]


@implementer(IReadWriteDescriptor, ITCPTransport, IPushProducer, IConsumer)
class SocketTransport:
    """One connection.

    Bytes go to C{protocol.dataReceived}, looked up at each chunk, and never while paused. The peer's end of stream is
    the end of the connection, unless somebody asked to be told of it by L{on_peer_end}.
    """

    def __init__(
        self, connected: socket.socket, protocol: IProtocol, peer: SocketName, reactor: ISocketReactor
    ) -> None:
        """The caller starts the reading with C{resumeProducing}.

        @param peer: the address; the socket of a peer that has already reset the connection cannot tell it.
        """
        self.protocol = protocol
        self._socket = connected
        self._reactor = reactor
        self._peer = to_address(peer)
        self._host = to_address(connected.getsockname())
        self._phase = Phase.OPEN
        self._paused = True
        self._unsent: list[bytes | memoryview] = []
        self._unsent_size = 0
        self._discarded = 0
        self._broken: Exception | None = None
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self._timer: IDelayedCall | None = None
        self._peer_end: Callable[[], None] | None = None
        self._peer_ended = False
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000)

    @property
    def connected(self) -> bool:
        return self._phase is not Phase.GONE

    @property
    def disconnecting(self) -> bool:
        return self._phase in (Phase.FLUSHING, Phase.LINGERING, Phase.ABORTED)

    # Reading

    def doRead(self) -> Exception | None:  # type: ignore[override]  # as in Twisted's own transports
        if self._phase is not Phase.OPEN and self._phase not in RECEIVING:
            return self._discard()
        if self._paused:  # by something else that the reactor called in this round
            return None
        try:
            data = bytes(READ_BUFFER[: self._socket.recv_into(READ_BUFFER)])
        except BlockingIOError:
            return None
        except OSError as error:
            return ConnectionLost(str(error))
        if not data:
            return self._end_of_stream()
        self.protocol.dataReceived(data)
        return None

    def on_peer_end(self, call: Callable[[], None]) -> None:
        """Have the peer's end of stream told by C{call}, and go on sending until C{loseWriteConnection} or
        C{loseConnection}, one of which must follow."""
        self._peer_end = call

    def _end_of_stream(self) -> Exception | None:
        """The peer has said its last.

        @return: why the connection is over, where it is.
        """
        if self._phase not in RECEIVING:  # since the bytes just delivered: the last ones are still to be sent
            return None
        if self._peer_end is None or self._phase is Phase.ENDED:
            return CONNECTION_DONE
        self._peer_ended = True
        self._reactor.removeReader(self)
        self._peer_end()
        return None

    def _discard(self) -> Exception | None:
        """Wait for the peer's end, whatever it still sends before that."""
        if self._phase is not Phase.LINGERING:
            return None
        try:
            size = self._socket.recv_into(READ_BUFFER)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_DONE
        self._discarded += size
        return None if size > 0 and self._discarded <= LINGER_BYTES else CONNECTION_DONE

    def pauseProducing(self) -> None:
        self._paused = True
        if self._phase in RECEIVING:
            self._reactor.removeReader(self)

    def resumeProducing(self) -> None:
        self._paused = False
        if self._phase in RECEIVING and not self._peer_ended:
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        self.loseConnection()

    # Writing

    def write(self, data: bytes) -> None:
        """Send, or queue what cannot be sent now. Dropped after C{loseConnection}."""
        if self._phase is not Phase.OPEN or not data:
            return
        if self._unsent:
            self._unsent.append(data)
            self._unsent_size += len(data)
        else:
            sent = self._transmit(data)
            if sent == len(data):
                return
            self._unsent.append(memoryview(data)[sent:])
            self._unsent_size = len(data) - sent
            self._reactor.addWriter(self)
        if self._producer is not None and self._unsent_size >= HIGH_WATER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def doWrite(self) -> Exception | None:  # type: ignore[override]
        if self._phase not in (Phase.OPEN, Phase.ENDING, Phase.FLUSHING):
            return None
        while self._unsent and self._broken is None:
            head = self._unsent[0]
            sent = self._transmit(head)
            self._unsent_size -= sent
            if sent < len(head):
                # A TLS record begun must be offered again with the same bytes: the head is never joined with others.
                self._unsent[0] = memoryview(head)[sent:]
                return self._broken
            self._unsent = [b"".join(self._unsent[1:])] if len(self._unsent) > 1 else []
        if self._broken is not None:
            return self._broken
        self._reactor.removeWriter(self)
        if self._phase is not Phase.OPEN:
            self._finish()
        elif self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        return None

    def _transmit(self, data: bytes | memoryview) -> int:
        """Send some bytes, and say how many.

        A peer that takes no more may have left its last bytes here: it is the reading that ends the connection, where
        there is something left to read. What cannot go on after an error sets C{_broken}, for the next C{doWrite}: a
        caller of C{write} is never called back from inside.
        """
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if not self._peer_ended:
                return len(data)
            self._broken = ConnectionLost(str(error))
            return 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Hold a push producer back while much is queued."""
        if not streaming or self._producer is not None:
            raise RuntimeError("one producer, and it must push")
        if self._phase is not Phase.OPEN:
            producer.stopProducing()
            return
        self._producer, self._producer_paused = IPushProducer(producer), False

    def unregisterProducer(self) -> None:
        self._producer = None

    # Ending

    def loseConnection(self) -> None:
        """Send what is queued, tell the peer that this was all, and close when it does, or a little later. Nothing
        is delivered from here on but C{connectionLost}; the producer is forgotten."""
        if self._phase not in RECEIVING:
            return
        ended = self._phase is Phase.ENDED
        self._phase = Phase.FLUSHING
        self._producer = None
        self._reactor.removeReader(self)
        if ended:
            self._linger()
            return
        self._set_timer(FLUSH_SECONDS, self.abortConnection)
        if not self._unsent:
            self._finish()

    def loseWriteConnection(self) -> None:
        """Send what is queued, and tell the peer that this was all. What it says is delivered until it ends, too, for
        a bounded time. The producer is forgotten."""
        if self._phase is not Phase.OPEN:
            return
        self._phase = Phase.ENDING
        self._producer = None
        self._set_timer(FLUSH_SECONDS, self.abortConnection)
        if not self._unsent:
            self._finish()

    def abortConnection(self) -> None:
        """Drop what is queued and close. C{connectionLost} comes from the reactor, not from inside this call."""
        if self._phase in (Phase.ABORTED, Phase.GONE):
            return
        self._phase = Phase.ABORTED
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._set_timer(0, lambda: self.connectionLost(failure_of(ConnectionAborted())))

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor, or by a timer."""
        if self._phase is Phase.GONE:
            return
        self._phase = Phase.GONE
        self._clear_timer()
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._farewell()
        self._socket.close()
        self._unsent.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._peer_end = None
        protocol = self.protocol
        del self.protocol  # they hold each other: without this the memory waits for the garbage collector
        protocol.connectionLost(reason)

    def _finish(self) -> None:
        """All is sent: say so, and wait for the peer's end."""
        if not self._farewell():
            self._reactor.addWriter(self)
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer was faster
            pass
        if self._phase is Phase.FLUSHING:
            self._linger()
            return
        self._phase = Phase.ENDED
        self._set_timer(0 if self._peer_ended else HALF_OPEN_SECONDS, self._done)

    def _linger(self) -> None:
        self._phase = Phase.LINGERING
        self._set_timer(LINGER_SECONDS, self._done)
        self._reactor.addReader(self)

    def _done(self) -> None:
        self.connectionLost(failure_of(CONNECTION_DONE))

    def _farewell(self) -> bool:
        """Hook: the last bytes of a layer above TCP. False: not now; call again when the socket is writable."""
        return True

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._clear_timer()
        self._timer = self._reactor.callLater(seconds, call)

    def _clear_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # What is left of the interfaces

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return type(self).__name__

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._host

    def getTcpNoDelay(self) -> bool:
        return bool(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)
