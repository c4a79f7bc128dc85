"""Tests of L{qvd.protocols.adapters.sockets} and L{qvd.protocols.adapters.relay}."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, IReadWriteDescriptor, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from qvd.protocols.adapters.relay import EndedBy, GuestLeg, Relay, RelayOutcome
from qvd.protocols.adapters.sockets import (
    FLUSH_SECONDS,
    HALF_OPEN_SECONDS,
    HIGH_WATER,
    LINGER_BYTES,
    LINGER_SECONDS,
    ISocketReactor,
    SocketTransport,
)
from tests.fakes.case import Case

PEER = ("192.0.2.7", 4100)


class FakeSocket:
    """A socket whose kernel buffers the test moves.

    @ivar room: bytes that can be sent now.
    @ivar incoming: what the next reads give; an exception is raised.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.sent = bytearray()
        self.incoming: list[bytes | OSError] = []
        self.send_error: OSError | None = None
        self.events: list[str] = []
        self.options: dict[tuple[int, int], int] = {}

    def send(self, data: bytes | memoryview) -> int:
        if self.send_error is not None:
            raise self.send_error
        taken = bytes(data)[: self.room]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def recv_into(self, buffer: memoryview) -> int:
        if not self.incoming:
            raise BlockingIOError
        data = self.incoming.pop(0)
        if isinstance(data, OSError):
            raise data
        buffer[: len(data)] = data
        return len(data)

    def shutdown(self, how: int) -> None:
        self.events.append("shutdown")

    def close(self) -> None:
        self.events.append("close")

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.1", 40000)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        return 1

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return -1 if "close" in self.events else 99


class Recorder(Protocol):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason)


class RecordingProducer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


def producing() -> tuple[RecordingProducer, Any]:
    """The same object twice, for two type checkers."""
    producer = RecordingProducer()
    directlyProvides(producer, IPushProducer)
    return producer, producer


def failure(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


class SocketTestCase(Case):
    """A transport over a fake socket in a fake reactor."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        self.socket = FakeSocket()
        self.protocol = Recorder()
        self.transport = SocketTransport(
            cast(socket.socket, self.socket), self.protocol, PEER, cast(ISocketReactor, self.reactor)
        )
        self.transport.resumeProducing()

    def drain(self) -> None:
        """Let the socket take all, as the reactor would."""
        self.socket.room = 1 << 30
        while self.transport in self.reactor.getWriters():
            assert self.transport.doWrite() is None

    def reading(self) -> bool:
        return self.transport in self.reactor.getReaders()


class OptionTests(SocketTestCase):
    def test_a_peer_that_vanished_is_noticed(self) -> None:
        """In about two minutes, with bytes on their way or without."""
        options = self.socket.options
        assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
        assert options[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] < 120
        assert options[socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT] == 120_000


class WritingTests(SocketTestCase):
    def test_interfaces(self) -> None:
        for interface in (ITCPTransport, IPushProducer, IConsumer, IReadWriteDescriptor):
            verifyObject(interface, self.transport)

    def test_sent_at_once(self) -> None:
        """Nothing waits for the reactor when the socket takes all."""
        self.transport.write(b"abc")
        assert self.socket.sent == b"abc"
        assert self.transport not in self.reactor.getWriters()

    def test_rest_waits_in_order(self) -> None:
        self.socket.room = 2
        self.transport.write(b"abc")
        self.transport.write(b"def")
        self.transport.writeSequence([b"g", b"h"])
        assert self.socket.sent == b"ab"
        self.drain()
        assert self.socket.sent == b"abcdefgh"

    @given(st.lists(st.binary(max_size=20)), st.lists(st.integers(0, 30)))
    def test_any_pace(self, chunks: list[bytes], rooms: list[int]) -> None:
        """However the socket takes them, the bytes are the same."""
        self.setUp()
        self.socket.room = 0
        for chunk, room in zip(chunks, rooms + [0] * len(chunks), strict=False):
            self.transport.write(chunk)
            self.socket.room = room
            if self.transport in self.reactor.getWriters():
                self.transport.doWrite()
        self.drain()
        assert self.socket.sent == b"".join(chunks)

    def test_producer_held_back(self) -> None:
        producer, provider = producing()
        self.transport.registerProducer(provider, True)
        self.socket.room = 0
        self.transport.write(b"x" * (HIGH_WATER - 1))
        assert producer.calls == []
        self.transport.write(b"x")
        assert producer.calls == ["pause"]
        self.socket.room = HIGH_WATER - 1
        self.transport.doWrite()
        self.transport.doWrite()
        assert producer.calls == ["pause"]
        self.drain()
        assert producer.calls == ["pause", "resume"]

    def test_last_bytes_of_a_peer_that_takes_no_more(self) -> None:
        """A failed write does not keep them from being read, at once or from the queue."""
        self.socket.room = 0
        self.transport.write(b"queued")
        self.socket.send_error = BrokenPipeError(32, "Broken pipe")
        assert self.transport.doWrite() is None
        self.transport.write(b"more")
        assert self.transport not in self.reactor.getWriters()
        self.socket.incoming = [b"last", b""]
        assert self.transport.doRead() is None
        assert isinstance(self.transport.doRead(), ConnectionDone)
        assert self.protocol.received == [b"last"]

    def test_nothing_after_close(self) -> None:
        self.transport.loseConnection()
        self.transport.write(b"x")
        assert self.socket.sent == b""


class ReadingTests(SocketTestCase):
    def test_protocol_looked_up_each_time(self) -> None:
        elsewhere: list[bytes] = []
        self.socket.incoming = [b"a", b"b"]
        self.transport.doRead()
        self.protocol.dataReceived = elsewhere.append  # type: ignore[assignment,method-assign]
        self.transport.doRead()
        assert (self.protocol.received, elsewhere) == ([b"a"], [b"b"])

    def test_paused(self) -> None:
        """An event that the reactor had already fetched is not delivered."""
        self.socket.incoming = [b"a"]
        self.transport.pauseProducing()
        self.transport.doRead()
        assert self.protocol.received == []
        assert not self.reading()
        self.transport.resumeProducing()
        self.transport.doRead()
        assert self.protocol.received == [b"a"]

    def test_ends(self) -> None:
        self.socket.incoming = [b"", ConnectionResetError(104, "reset")]
        assert isinstance(self.transport.doRead(), ConnectionDone)
        assert isinstance(self.transport.doRead(), ConnectionLost)


class ClosingTests(SocketTestCase):
    def test_flush_then_linger(self) -> None:
        """The last bytes go out, then our end of stream; what the peer still sends is thrown away until it ends."""
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.loseConnection()
        assert self.transport.disconnecting
        assert self.socket.events == []
        self.drain()
        assert (bytes(self.socket.sent), self.socket.events) == (b"last", ["shutdown"])
        self.socket.incoming = [b"late", b""]
        assert self.transport.doRead() is None
        done = self.transport.doRead()
        assert done is not None
        self.transport.connectionLost(failure(done))
        assert self.protocol.received == []
        assert len(self.protocol.lost) == 1
        assert self.socket.events == ["shutdown", "close"]
        assert self.reactor.getDelayedCalls() == []

    def test_mute_peer(self) -> None:
        """A peer that takes nothing is dropped."""
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.loseConnection()
        self.reactor.advance(FLUSH_SECONDS)
        self.reactor.advance(0)
        assert isinstance(self.protocol.lost[0].value, ConnectionAborted)
        assert not self.transport.connected

    def test_peer_that_stays(self) -> None:
        """A peer that does not end its side is left after a while, and not before."""
        self.transport.loseConnection()
        self.reactor.advance(LINGER_SECONDS / 2)
        assert self.reading() and not self.protocol.lost
        self.reactor.advance(LINGER_SECONDS / 2)
        assert isinstance(self.protocol.lost[0].value, ConnectionDone)

    def test_peer_that_goes_on(self) -> None:
        """A peer that goes on sending for ever is not read for ever."""
        self.transport.loseConnection()
        rounds = 0
        while True:
            self.socket.incoming = [b"x" * 65536]
            rounds += 1
            if self.transport.doRead() is not None:
                break
            assert rounds * 65536 < 2 * LINGER_BYTES

    def test_close_forgets_the_producer(self) -> None:
        producer, provider = producing()
        self.transport.registerProducer(provider, True)
        self.transport.loseConnection()
        self.reactor.advance(LINGER_SECONDS)
        assert producer.calls == []

    def test_abort(self) -> None:
        """Nothing is flushed, and the protocol is not called from inside."""
        self.socket.room = 0
        self.transport.write(b"never")
        self.transport.abortConnection()
        self.transport.abortConnection()
        assert self.protocol.lost == []
        self.socket.room = 100
        self.socket.incoming = [b"x"]
        assert self.transport.doRead() is None
        assert self.transport.doWrite() is None
        self.reactor.advance(0)
        assert isinstance(self.protocol.lost[0].value, ConnectionAborted)
        assert (bytes(self.socket.sent), self.protocol.received) == (b"", [])

    def test_lost_once(self) -> None:
        producer, provider = producing()
        self.transport.registerProducer(provider, True)
        self.transport.connectionLost(connectionDone)
        self.transport.connectionLost(connectionDone)
        self.transport.abortConnection()
        self.transport.loseConnection()
        self.transport.resumeProducing()
        assert (len(self.protocol.lost), producer.calls) == (1, ["stop"])
        assert self.reactor.getDelayedCalls() == []


class HalfCloseTests(SocketTestCase):
    """One direction ends before the other."""

    def setUp(self) -> None:
        super().setUp()
        self.ends: list[str] = []

    def read(self) -> None:
        """What the reactor does with a readable socket."""
        why = self.transport.doRead()
        if why is not None:
            self.transport.connectionLost(failure(why))

    def peer_ends(self) -> None:
        self.socket.incoming = [b""]
        self.read()

    def assert_gone(self) -> None:
        assert len(self.protocol.lost) == 1
        assert not self.transport.connected
        assert self.reactor.getDelayedCalls() == []

    def half_closed_by_peer(self) -> None:
        self.transport.on_peer_end(lambda: self.ends.append("end"))
        self.peer_ends()
        assert self.ends == ["end"]

    def test_peer_that_ends_is_still_sent_to(self) -> None:
        self.socket.room = 0
        self.transport.write(b"queued ")
        self.half_closed_by_peer()
        assert self.protocol.lost == []
        assert not self.reading(), "an end of stream is readable for ever"
        self.transport.write(b"answer")
        self.transport.loseWriteConnection()
        assert self.socket.events == []
        self.drain()
        assert (bytes(self.socket.sent), self.socket.events) == (b"queued answer", ["shutdown"])
        assert self.protocol.lost == [], "not from inside"
        self.reactor.advance(0)
        assert isinstance(self.protocol.lost[0].value, ConnectionDone)
        self.assert_gone()

    def test_paused_and_resumed_after_the_end(self) -> None:
        """Back-pressure that ends later does not start the reading again."""
        self.half_closed_by_peer()
        self.transport.pauseProducing()
        self.transport.resumeProducing()
        assert not self.reading()

    def test_peer_that_was_told_of_our_end_still_says_something(self) -> None:
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.on_peer_end(lambda: self.ends.append("end"))
        self.transport.loseWriteConnection()
        self.transport.write(b"too late")
        self.socket.incoming = [b"meanwhile "]
        self.read()
        self.drain()
        assert (bytes(self.socket.sent), self.socket.events) == (b"last", ["shutdown"])
        self.socket.incoming = [b"answer"]
        self.read()
        assert self.protocol.received == [b"meanwhile ", b"answer"]
        self.peer_ends()
        assert isinstance(self.protocol.lost[0].value, ConnectionDone)
        self.assert_gone()

    def test_it_can_be_held_back(self) -> None:
        self.transport.loseWriteConnection()
        self.transport.pauseProducing()
        assert not self.reading()
        self.transport.resumeProducing()
        assert self.reading()

    def test_not_for_ever(self) -> None:
        self.transport.loseWriteConnection()
        for _ in range(int(HALF_OPEN_SECONDS) - 1):
            self.socket.incoming = [b"and "]
            self.read()
            self.reactor.advance(1)
        assert self.protocol.lost == []
        self.reactor.advance(1)
        self.assert_gone()

    def test_mute_peer(self) -> None:
        """Our end, behind bytes that the peer does not take."""
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.loseWriteConnection()
        self.reactor.advance(FLUSH_SECONDS)
        self.reactor.advance(0)
        self.assert_gone()

    def test_the_producer_is_forgotten(self) -> None:
        producer, provider = producing()
        self.transport.registerProducer(provider, True)
        self.transport.loseWriteConnection()
        self.peer_ends()
        assert producer.calls == []

    def test_closed_behind_our_end(self) -> None:
        """The last bytes still go out, what comes in is not wanted any more."""
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.loseWriteConnection()
        self.assert_closes_after(b"last")

    def test_closed_after_the_peers_end(self) -> None:
        self.socket.room = 0
        self.transport.write(b"last")
        self.half_closed_by_peer()
        self.assert_closes_after(b"last")

    def assert_closes_after(self, last: bytes) -> None:
        self.transport.loseConnection()
        self.drain()
        assert (bytes(self.socket.sent), self.socket.events) == (last, ["shutdown"])
        self.peer_ends()
        self.assert_gone()

    def test_closed_after_our_end_was_told(self) -> None:
        self.transport.loseWriteConnection()
        self.transport.loseConnection()
        assert self.socket.events == ["shutdown"], "once"
        self.socket.incoming = [b"not wanted"]
        self.read()
        assert self.protocol.received == []
        self.reactor.advance(LINGER_SECONDS)
        self.assert_gone()

    def test_both_end_at_once(self) -> None:
        self.socket.room = 0
        self.transport.write(b"last")
        self.transport.loseWriteConnection()
        self.half_closed_by_peer()
        self.drain()
        self.reactor.advance(0)
        assert self.socket.sent == b"last"
        self.assert_gone()

    def test_peer_that_has_ended_and_takes_no_more(self) -> None:
        """There is nothing left to read that could end the connection."""
        self.half_closed_by_peer()
        self.socket.send_error = BrokenPipeError(32, "Broken pipe")
        self.transport.write(b"answer")
        assert self.protocol.lost == []
        why = self.transport.doWrite()
        assert isinstance(why, ConnectionLost)
        self.transport.connectionLost(failure(why))
        self.assert_gone()

    def test_abort(self) -> None:
        self.half_closed_by_peer()
        self.transport.abortConnection()
        self.reactor.advance(0)
        self.assert_gone()


class Leg(StringTransport):
    """One side of a relay.

    @ivar peer_end: to be called when the peer ends its direction.
    @ivar write_ended: our direction was ended.
    """

    peer_end: Callable[[], None]
    write_ended = False

    def on_peer_end(self, call: Callable[[], None]) -> None:
        self.peer_end = call

    def loseWriteConnection(self) -> None:
        self.write_ended = True


class RelayTests(Case):
    def setUp(self) -> None:
        self.client: Any = Leg()  # type: ignore[no-untyped-call]
        self.guest: Any = Leg()  # type: ignore[no-untyped-call]
        self.leg = GuestLeg()
        self.leg.makeConnection(self.guest)  # type: ignore[no-untyped-call]
        self.outcomes: list[RelayOutcome] = []
        self.relay = Relay(cast(SocketTransport, self.client), self.leg, self.outcomes.append)

    def test_copies(self) -> None:
        """Both ways, the early bytes first."""
        self.relay.start(b"early ")
        self.relay.dataReceived(b"late")
        self.leg.dataReceived(b"answer")
        assert self.guest.value() == b"early late"
        assert self.client.value() == b"answer"

    def test_back_pressure(self) -> None:
        """Each side is the other one's producer."""
        self.relay.start()
        assert self.client.producer is self.guest
        assert self.guest.producer is self.client
        assert self.client.streaming and self.guest.streaming

    def test_guest_waits_for_start(self) -> None:
        self.guest.pauseProducing()
        self.relay.start()
        assert self.guest.producerState == "producing"

    def test_client_ends(self) -> None:
        """It has said its last; the guest's answer still goes to it."""
        self.relay.start(b"12345")
        self.client.peer_end()
        assert self.guest.write_ended and not self.guest.disconnecting
        self.leg.dataReceived(b"123")
        assert self.client.value() == b"123"
        self.guest.peer_end()
        assert self.client.write_ended and not self.client.disconnecting
        assert self.outcomes == [], "not before both are gone"
        self.leg.connectionLost(connectionDone)
        assert self.client.disconnecting and not self.client.disconnected
        self.relay.connectionLost(connectionDone)
        (outcome,) = self.outcomes
        assert (outcome.ended_by, outcome.from_client, outcome.from_guest) == (EndedBy.CLIENT, 5, 3)
        assert "The client closed" in outcome.reason

    def test_guest_ends(self) -> None:
        self.relay.start()
        self.guest.peer_end()
        assert self.client.write_ended and not self.client.disconnecting
        self.relay.dataReceived(b"12")
        assert self.guest.value() == b"12"
        self.relay.connectionLost(connectionDone)
        assert self.guest.disconnecting and not self.guest.disconnected
        self.leg.connectionLost(connectionDone)
        (outcome,) = self.outcomes
        assert (outcome.ended_by, outcome.from_client) == (EndedBy.GUEST, 2)
        assert outcome.reason.startswith("The X session closed")

    def test_client_lost(self) -> None:
        self.relay.start(b"12345")
        self.relay.connectionLost(failure(ConnectionLost()))
        assert self.guest.disconnecting and not self.guest.disconnected
        assert self.outcomes == [], "not before the guest has its bytes"
        self.leg.connectionLost(connectionDone)
        assert [outcome.ended_by for outcome in self.outcomes] == [EndedBy.CLIENT]

    def test_guest_lost(self) -> None:
        self.relay.start()
        self.leg.connectionLost(failure(ConnectionLost()))
        assert self.client.disconnecting and not self.client.disconnected
        self.relay.connectionLost(connectionDone)
        assert [outcome.ended_by for outcome in self.outcomes] == [EndedBy.GUEST]

    def test_abort(self) -> None:
        """The reason given is the one that stays."""
        self.relay.start()
        self.relay.abort("A newer client has the VM")
        self.relay.connectionLost(failure(ConnectionAborted()))
        self.leg.connectionLost(failure(ConnectionAborted()))
        (outcome,) = self.outcomes
        assert (outcome.ended_by, outcome.reason) == (EndedBy.ABORT, "A newer client has the VM")
        assert self.client.disconnected and self.guest.disconnected
