"""Tests of L{qvd.protocols.adapters.tls}; what needs a real client is in C{tests/integration/test_relay.py}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from qvd.protocols.adapters.sockets import LINGER_SECONDS
from qvd.protocols.adapters.tls import RECORD, RECORDS_PER_READ, TLSLimits, TLSListenerFactory, TLSTransport, reason_of
from tests.fakes.case import Case
from tests.unit.test_adapters_relay import FakeSocket, Recorder, failure

HOST = "192.0.2.7"
HTTP = SSL.Error([("SSL routines", "", "http request")])
NO_CIPHER = SSL.Error([("SSL routines", "", "no shared cipher")])
CUT = SSL.SysCallError(-1, "Unexpected EOF")


class FakeTLS:
    """OpenSSL over a fake socket, without the cipher.

    @ivar handshake: outcomes of the next steps; an exception is raised.
    @ivar incoming: records, or exceptions.
    """

    def __init__(self, socket: FakeSocket) -> None:
        self.socket = socket
        self.handshake: list[SSL.Error | None] = [None]
        self.incoming: list[bytes | SSL.Error] = []
        self.state = b"before SSL initialization"
        self.shutdowns: list[bool | SSL.Error] = []
        self.farewells = 0
        self._begun: bytes | None = None

    def get_state_string(self) -> bytes:
        return self.state

    def do_handshake(self) -> None:
        outcome = self.handshake.pop(0)
        if outcome is not None:
            raise outcome

    def send(self, data: bytes | memoryview) -> int:
        """All or nothing, as without partial writes; what was begun must be offered again."""
        if self._begun is not None and bytes(data) != self._begun:
            raise SSL.Error([("SSL routines", "", "bad write retry")])
        self._begun = None
        if self.socket.room < len(data):
            self._begun = bytes(data)
            raise SSL.WantWriteError()
        return self.socket.send(data)

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise SSL.WantReadError()
        data = self.incoming.pop(0)
        if isinstance(data, SSL.Error):
            raise data
        assert len(data) <= size
        return data

    def shutdown(self) -> bool:
        outcome = self.shutdowns.pop(0) if self.shutdowns else False
        if isinstance(outcome, SSL.Error):
            raise outcome
        self.farewells += 1
        return outcome


class TLSTestCase(Case):
    """A listener, and connections without sockets."""

    limits = TLSLimits(handshake_seconds=10.0, connections=3, connections_per_address=2)

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        self.made: list[Recorder] = []
        self.inner = Factory.forProtocol(self.make)
        self.inner.noisy = False
        self.listener = TLSListenerFactory(SSL.Context(SSL.TLS_SERVER_METHOD), self.inner, self.limits)

    def make(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]

    def accept(self, handshake: Sequence[SSL.Error | None] = (None,), host: str = HOST) -> TLSTransport | None:
        """What the port does with a new connection."""
        newcomer = self.listener.buildProtocol(cast(Any, _Address(host)))
        if newcomer is None:
            return None
        self.socket = FakeSocket()
        port: Any = None
        transport = TLSTransport(cast(Any, self.socket), newcomer, (host, 5), port, 0, self.reactor)
        self.tls = FakeTLS(self.socket)
        self.tls.handshake = list(handshake)
        transport._tls = cast(Any, self.tls)
        newcomer.makeConnection(transport)
        return transport

    def connect(self) -> tuple[TLSTransport, Recorder]:
        """A connection after its handshake."""
        transport = self.accept()
        assert transport is not None
        assert transport.doRead() is None
        assert isinstance(transport.protocol, Recorder)
        return transport, transport.protocol


class _Address:
    def __init__(self, host: str) -> None:
        self.host = host


class HandshakeTests(TLSTestCase):
    def fails_with(self, step: SSL.Error, state: bytes) -> list[tuple[LogLevel, str]]:
        """What is logged when the handshake ends so."""
        transport = self.accept([step])
        assert transport is not None
        self.tls.state = state
        with capturedLogs() as events:
            error = transport.doRead()
            if error is not None:
                transport.connectionLost(failure(error))
        return [(event["log_level"], formatEvent(event)) for event in events]

    def test_interfaces(self) -> None:
        transport, _ = self.connect()
        verifyObject(ITCPTransport, transport)
        verifyObject(IReadWriteDescriptor, transport)

    def test_protocol_comes_after_the_handshake(self) -> None:
        transport = self.accept([SSL.WantReadError(), SSL.WantWriteError(), None])
        assert transport is not None
        transport.doRead()
        assert transport not in self.reactor.getWriters()
        transport.doRead()
        assert transport in self.reactor.getWriters()
        assert self.made == []
        transport.doWrite()
        assert [protocol.transport for protocol in self.made] == [transport]
        assert transport not in self.reactor.getWriters()
        assert self.reactor.getDelayedCalls() == [], "the deadline is off"

    def test_deadline(self) -> None:
        transport = self.accept([SSL.WantReadError()])
        assert transport is not None
        transport.doRead()
        with capturedLogs() as events:
            self.reactor.advance(self.limits.handshake_seconds)
        assert [formatEvent(event) for event in events] == [f"{HOST}:5: no TLS: not done in 10 s"]
        assert not transport.connected
        assert self.socket.events == ["close"]

    def test_failure_is_one_line(self) -> None:
        events = self.fails_with(NO_CIPHER, b"before SSL initialization")
        assert events == [(LogLevel.info, f"{HOST}:5: no TLS: no shared cipher")]

    def test_silent_client_is_no_news(self) -> None:
        for end in (SSL.ZeroReturnError(), CUT):
            events = self.fails_with(end, b"before SSL initialization")
            assert [level for level, _ in events] == [LogLevel.debug]

    def test_client_that_breaks_off_is(self) -> None:
        events = self.fails_with(CUT, b"TLSv1.3 early data")
        assert events == [(LogLevel.info, f"{HOST}:5: no TLS: the client closed")]

    def test_plain_http(self) -> None:
        """It is told so in clear text, and goes soon."""
        events = self.fails_with(HTTP, b"before SSL initialization")
        assert events == [(LogLevel.info, f"{HOST}:5: no TLS: plain HTTP")]
        assert self.socket.sent.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert (self.socket.events, self.tls.farewells) == (["shutdown"], 0)
        self.reactor.advance(LINGER_SECONDS)
        assert self.socket.events == ["shutdown", "close"]

    def test_refused_by_the_inner_factory(self) -> None:
        self.inner.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        transport = self.accept()
        assert transport is not None
        transport.doRead()
        assert transport.disconnecting

    def test_reasons(self) -> None:
        assert reason_of(SSL.SysCallError(104, "ECONNRESET")) == "Connection reset by peer"
        assert reason_of(SSL.ZeroReturnError()) == "the client closed"
        assert reason_of(SSL.Error()) == "the client closed"


class RecordTests(TLSTestCase):
    def test_full_records_go_together(self) -> None:
        """One delivery for what is there: fewer, larger writes on the other side."""
        transport, protocol = self.connect()
        self.tls.incoming = [b"a" * RECORD, b"b" * RECORD, b"c"]
        assert transport.doRead() is None
        assert protocol.received == [b"a" * RECORD + b"b" * RECORD + b"c"]

    def test_short_record_ends_the_reading(self) -> None:
        transport, protocol = self.connect()
        self.tls.incoming = [b"a", b"b"]
        transport.doRead()
        assert protocol.received == [b"a"]
        transport.doRead()
        assert protocol.received == [b"a", b"b"]

    def test_bounded_reading(self) -> None:
        """A fast client leaves the others their turn."""
        transport, protocol = self.connect()
        self.tls.incoming = [b"a" * RECORD] * (RECORDS_PER_READ + 1)
        transport.doRead()
        assert sum(map(len, protocol.received)) == RECORD * RECORDS_PER_READ

    def test_paused(self) -> None:
        transport, protocol = self.connect()
        transport.pauseProducing()
        self.tls.incoming = [b"a"]
        transport.doRead()
        assert protocol.received == []

    def test_nothing_after_close(self) -> None:
        transport, protocol = self.connect()
        transport.loseConnection()
        self.tls.incoming = [b"a"]
        transport.doRead()
        assert protocol.received == []

    def test_end_after_the_last_bytes(self) -> None:
        """An end that was read with the last record is not forgotten: epoll would not tell it again."""
        for end in (SSL.ZeroReturnError(), CUT):
            transport, protocol = self.connect()
            self.tls.incoming = [b"a" * RECORD, end]
            assert isinstance(transport.doRead(), ConnectionDone)
            assert protocol.received == [b"a" * RECORD]

    def test_broken(self) -> None:
        transport, _ = self.connect()
        self.tls.incoming = [SSL.Error([("SSL routines", "", "decryption failed")])]
        error = transport.doRead()
        assert isinstance(error, ConnectionLost)
        assert "decryption failed" in str(error)

    def test_record_begun_is_offered_again(self) -> None:
        """OpenSSL insists on the very bytes that it could not send, before any others."""
        transport, _ = self.connect()
        self.socket.room = 2
        for piece in (b"abc", b"def", b"ghi"):
            transport.write(piece)
        transport.doWrite()
        self.socket.room = 100
        assert transport.doWrite() is None
        assert self.socket.sent == b"abcdefghi"
        assert transport not in self.reactor.getWriters()

    def test_write_error(self) -> None:
        transport, _ = self.connect()
        self.tls.send = _fail  # type: ignore[method-assign]
        transport.write(b"x")
        assert isinstance(transport.doWrite(), ConnectionLost)


def _fail(data: bytes | memoryview) -> int:
    raise SSL.SysCallError(32, "EPIPE")


class ClosingTests(TLSTestCase):
    def test_close_notify_after_the_last_bytes(self) -> None:
        transport, _ = self.connect()
        self.socket.room = 0
        transport.write(b"last")
        transport.loseConnection()
        assert (self.tls.farewells, self.socket.events) == (0, [])
        self.socket.room = 100
        transport.doWrite()
        assert (bytes(self.socket.sent), self.tls.farewells) == (b"last", 1)
        assert self.socket.events == ["shutdown"]

    def test_close_notify_that_cannot_be_sent_yet(self) -> None:
        transport, _ = self.connect()
        self.tls.shutdowns = [SSL.WantWriteError(), False]
        transport.loseConnection()
        assert self.socket.events == []
        assert transport in self.reactor.getWriters()
        transport.doWrite()
        assert self.socket.events == ["shutdown"]

    def test_no_close_notify_inside_a_record(self) -> None:
        transport, protocol = self.connect()
        self.socket.room = 0
        transport.write(b"stuck")
        transport.abortConnection()
        self.reactor.advance(0)
        assert self.tls.farewells == 0
        assert isinstance(protocol.lost[0].value, ConnectionAborted)

    def test_close_all(self) -> None:
        transport, _ = self.connect()
        waiting = self.accept([SSL.WantReadError()])
        assert waiting is not None
        self.listener.close_all()
        self.reactor.advance(LINGER_SECONDS)
        assert not (transport.connected or waiting.connected)
        assert self.reactor.getDelayedCalls() == []


class HalfCloseTests(TLSTestCase):
    def test_client_that_ends_gets_its_answer(self) -> None:
        """Its last bytes come with its end, which is told after them."""
        transport, protocol = self.connect()
        seen: list[bytes] = []
        transport.on_peer_end(lambda: seen.extend(protocol.received))
        self.tls.incoming = [b"x" * RECORD, SSL.ZeroReturnError()]
        assert transport.doRead() is None
        assert seen == [b"x" * RECORD]
        transport.write(b"answer")
        transport.loseWriteConnection()
        assert (bytes(self.socket.sent), self.tls.farewells) == (b"answer", 1)
        self.reactor.advance(0)
        assert isinstance(protocol.lost[0].value, ConnectionDone)

    def test_client_that_was_told_of_our_end_still_says_something(self) -> None:
        transport, protocol = self.connect()
        transport.loseWriteConnection()
        assert (self.tls.farewells, self.socket.events) == (1, ["shutdown"])
        self.tls.incoming = [b"answer", SSL.ZeroReturnError()]
        assert transport.doRead() is None
        assert isinstance(transport.doRead(), ConnectionDone)
        assert protocol.received == [b"answer"]

    def test_end_behind_the_request_that_is_answered_last(self) -> None:
        """An answer that is still to be flushed is not dropped because the client has ended meanwhile."""
        transport, protocol = self.connect()
        self.socket.room = 0
        transport.write(b"queued")

        def last(data: bytes) -> None:
            transport.loseConnection()

        protocol.dataReceived = last  # type: ignore[method-assign]
        self.tls.incoming = [b"x" * RECORD, SSL.ZeroReturnError()]
        assert transport.doRead() is None
        self.socket.room = 100
        assert transport.doWrite() is None
        assert self.socket.sent == b"queued"


class LimitTests(TLSTestCase):
    def test_per_address(self) -> None:
        first, second = self.accept(), self.accept()
        assert first and second
        with capturedLogs() as events:
            assert self.accept() is None
            assert self.accept() is None
        assert [formatEvent(event) for event in events] == [f"{HOST}: refused: too many from there"]
        assert first is not None
        first.connectionLost(failure(ConnectionDone()))
        assert self.accept() is not None

    def test_in_all(self) -> None:
        """Connections count from their first moment to their last."""
        for number in range(self.limits.connections):
            assert self.accept(host=f"192.0.2.{number}") is not None
        with capturedLogs() as events:
            assert self.accept(host="198.51.100.1") is None
        assert [formatEvent(event) for event in events] == ["198.51.100.1: refused: full"]

    def test_a_failed_handshake_gives_its_place_back(self) -> None:
        for _ in range(5):
            transport = self.accept([NO_CIPHER])
            assert transport is not None
            error = transport.doRead()
            assert error is not None
            transport.connectionLost(failure(error))

    def test_inner_factory_starts_and_stops(self) -> None:
        calls: list[str] = []
        self.inner.startFactory = lambda: calls.append("start")  # type: ignore[method-assign]
        self.inner.stopFactory = lambda: calls.append("stop")  # type: ignore[method-assign]
        self.listener.doStart()
        self.listener.doStop()
        assert calls == ["start", "stop"]
