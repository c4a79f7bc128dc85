"""One connection's messages: order, deadlines, back-pressure, and who owns the transport when."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from qvd.protocols.adapters.heads import (
    CLOSE_SECONDS,
    ConnectionClosed,
    HeadLimits,
    HeadServer,
    HeadTimeout,
    ResponseClient,
)
from qvd.protocols.http1 import RemoteProtocolError, Response, encode_interim, encode_response
from tests import strategies

LIMITS = HeadLimits(head_bytes=200, head_seconds=5, first_seconds=30, idle_seconds=100)
LOST: Failure = cast(Any, Failure)(ConnectionDone())

Converse = Callable[[HeadServer], Coroutine[Any, Any, None]]


def failure_of(deferred: Deferred[Any]) -> BaseException | None:
    """How it has failed."""
    seen: list[Any] = []
    deferred.addErrback(seen.append)
    return seen[0].value if seen else None


def result_of(deferred: Deferred[Response]) -> Response:
    """What it has given."""
    seen: list[Response] = []
    deferred.addCallback(seen.append)
    return seen[0]


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\n\n".encode()


async def echo(wire: HeadServer) -> None:
    """Answer each request with its path; with the name of what is wrong, at the end."""
    while True:
        try:
            head = await wire.receive()
        except RemoteProtocolError as error:
            wire.send(f"{type(error).__name__} {error.status_hint}\n".encode())
            return
        if head.path == "/login":
            wire.authenticated()
        wire.send(head.path.encode() + b"\n")


class Pipe:
    """A connection, and what was done to its transport."""

    def __init__(self, wire: HeadServer | ResponseClient, peer: object = None) -> None:
        self.wire = cast(Any, wire)
        self.transport = cast(Any, StringTransport)(peerAddress=peer)
        self.aborted = False
        self.transport.abortConnection = self._abort
        self.wire.makeConnection(self.transport)

    def _abort(self) -> None:
        self.aborted = True

    @property
    def producer(self) -> Any:
        return self.transport.producer

    def paused(self) -> bool:
        return bool(self.transport.producerState == "paused")

    def closing(self) -> bool:
        return bool(self.transport.disconnecting)

    def value(self) -> bytes:
        return bytes(self.transport.value())

    def feed(self, data: bytes) -> None:
        self.wire.dataReceived(data)

    def lose(self) -> None:
        self.wire.connectionLost(LOST)


class Taker:
    """Takes a connection over."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


class TestServer:
    """L{HeadServer}."""

    def setup_method(self) -> None:
        self.clock = Clock()

    def serve(self, converse: Converse = echo, peer: object = None) -> Pipe:
        return Pipe(HeadServer(self.clock, LIMITS, converse), peer)

    def teardown_method(self) -> None:
        assert self.clock.getDelayedCalls() == []

    def test_requests_in_order_and_cut_anywhere(self) -> None:
        pipe = self.serve()
        for byte in request("/a") + request("/b"):
            pipe.feed(bytes([byte]))
        pipe.feed(request("/c") + request("/d") + request("/e")[:5])
        assert pipe.value() == b"/a\n/b\n/c\n/d\n"
        pipe.lose()

    def test_pipelined_requests_wait_for_the_one_before(self) -> None:
        gates: list[Deferred[None]] = []

        async def slow(wire: HeadServer) -> None:
            while True:
                head = await wire.receive()
                gates.append(Deferred())
                await gates[-1]
                wire.send(head.path.encode())

        pipe = self.serve(slow)
        pipe.feed(request("/a") + request("/b"))
        assert pipe.value() == b""
        gates[0].callback(None)
        assert pipe.value() == b"/a"
        gates[1].callback(None)
        assert pipe.value() == b"/a/b"
        pipe.lose()

    def test_peer(self) -> None:
        seen: list[str] = []

        async def look(wire: HeadServer) -> None:
            seen.append(wire.peer)

        for address in (None, IPv6Address("TCP", "::1", 5), UNIXAddress("/x")):
            self.serve(look, address).lose()
        assert seen == ["192.168.1.1:54321", "[::1]:5", "local"]

    def test_bad_head_ends_in_an_answer_and_a_close(self) -> None:
        pipe = self.serve()
        pipe.feed(b"nonsense\n\n")
        assert pipe.value() == b"RemoteProtocolError 400\n"
        assert pipe.closing()
        pipe.feed(request("/late"))
        assert pipe.value() == b"RemoteProtocolError 400\n"
        pipe.lose()

    def test_long_head_is_refused_before_its_end(self) -> None:
        pipe = self.serve()
        pipe.feed(b"x" * 201)
        assert pipe.value() == b"RemoteProtocolError 431\n"
        pipe.lose()

    def test_a_byte_a_second_does_not_prolong_a_head(self) -> None:
        pipe = self.serve()
        pipe.feed(request("/login"))
        self.clock.advance(50)
        for _ in range(4):
            pipe.feed(b"x")
            self.clock.advance(1)
        assert not pipe.closing()
        pipe.feed(b"x")
        self.clock.advance(1)
        assert pipe.value() == b"/login\nHeadTimeout 408\n"
        pipe.lose()

    def test_blank_lines_neither_begin_a_head_nor_prolong_the_idle_time(self) -> None:
        pipe = self.serve()
        pipe.feed(request("/login"))
        for _ in range(99):
            pipe.feed(b"\r\n")
            self.clock.advance(1)
        assert not pipe.closing()
        self.clock.advance(1)
        assert pipe.closing()
        pipe.lose()

    def test_each_head_has_its_own_time(self) -> None:
        pipe = self.serve()
        for _ in range(3):
            pipe.feed(request("/login")[:5])
            self.clock.advance(4)
            pipe.feed(request("/login")[5:])
        pipe.feed(b"G")
        self.clock.advance(5)
        assert pipe.value() == b"/login\n" * 3 + b"HeadTimeout 408\n"
        pipe.lose()

    def test_idle_time_counts_between_requests(self) -> None:
        pipe = self.serve()
        for _ in range(3):
            pipe.feed(request("/login"))
            self.clock.advance(99)
        assert not pipe.closing()
        self.clock.advance(1)
        assert pipe.value() == b"/login\n" * 3 + b"HeadTimeout 408\n"
        pipe.lose()

    def test_first_seconds_are_a_total_until_the_login(self) -> None:
        pipe = self.serve()
        for _ in range(10):
            pipe.feed(request("/ping"))
            self.clock.advance(2.5)
        assert not pipe.closing()
        self.clock.advance(5)
        assert pipe.value().endswith(b"/ping\nHeadTimeout 408\n")
        pipe.lose()

    def test_first_seconds_over_while_the_password_is_checked(self) -> None:
        gate: Deferred[None] = Deferred()

        def server(good: bool) -> Converse:
            async def converse(wire: HeadServer) -> None:
                await wire.receive()
                await gate
                if good:
                    wire.authenticated()
                await echo(wire)

            return converse

        pipes = [self.serve(server(good)) for good in (True, False)]
        for pipe in pipes:
            pipe.feed(request("/"))
        self.clock.advance(31)
        gate.callback(None)
        assert [pipe.value() for pipe in pipes] == [b"", b"HeadTimeout 408\n"]
        for pipe in pipes:
            pipe.lose()

    def test_bytes_nobody_waits_for_pause_the_transport(self) -> None:
        gate: Deferred[None] = Deferred()

        async def busy(wire: HeadServer) -> None:
            await gate
            await echo(wire)

        pipe = self.serve(busy)
        pipe.feed(request("/" + "a" * 150))
        assert not pipe.paused()
        pipe.feed(request("/" + "b" * 150))
        assert pipe.paused()
        gate.callback(None)
        assert not pipe.paused()
        assert pipe.value().count(b"\n") == 2
        pipe.lose()

    def test_peer_that_does_not_read_gets_no_more_answers(self) -> None:
        pipe = self.serve()
        wire = pipe.producer
        wire.pauseProducing()
        for _ in range(20):
            pipe.feed(request("/" + "a" * 10))
        assert pipe.value() == b""
        assert pipe.paused()
        wire.resumeProducing()
        assert pipe.value().count(b"\n") == 20
        assert not pipe.paused()
        pipe.lose()

    def test_many_requests_in_one_piece_do_not_nest(self) -> None:
        pipe = self.serve()
        pipe.feed(request("/") * 5000)
        assert pipe.value() == b"/\n" * 5000
        pipe.lose()

    def test_loss_while_receiving(self) -> None:
        ends: list[str] = []

        async def converse(wire: HeadServer) -> None:
            for _ in range(2):
                try:
                    await wire.receive()
                except ConnectionClosed:
                    ends.append("closed")
            wire.send(b"in vain")

        pipe = self.serve(converse)
        pipe.lose()
        assert ends == ["closed", "closed"]
        assert pipe.value() == b""

    def test_loss_cancels_what_goes_on(self) -> None:
        ends: list[str] = []

        async def converse(wire: HeadServer) -> None:
            try:
                await Deferred[None]()
            except CancelledError:
                ends.append("cancelled")
                raise

        with capturedLogs() as logged:
            self.serve(converse).lose()
        assert ends == ["cancelled"]
        assert logged == []

    def test_gone_is_called_once(self) -> None:
        gone: list[bool] = []
        wire = HeadServer(self.clock, LIMITS, echo, lambda: gone.append(True))
        pipe = Pipe(wire)
        wire.close()
        assert gone == []
        pipe.lose()
        assert gone == [True]

    def test_unexpected_error_is_logged_once_and_closes(self) -> None:
        async def broken(wire: HeadServer) -> None:
            await wire.receive()
            raise ZeroDivisionError

        pipe = self.serve(broken)
        with capturedLogs() as logged:
            pipe.feed(request("/"))
        assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
        assert pipe.closing()
        pipe.lose()

    def test_end_of_the_conversation_closes_and_at_last_aborts(self) -> None:
        async def brief(wire: HeadServer) -> None:
            wire.send(b"bye")

        pipe = self.serve(brief)
        assert (pipe.value(), pipe.closing(), pipe.aborted) == (b"bye", True, False)
        assert pipe.producer is None
        self.clock.advance(CLOSE_SECONDS)
        assert pipe.aborted
        pipe.lose()

    def test_what_comes_in_after_the_end_is_not_kept(self) -> None:
        async def brief(wire: HeadServer) -> None:
            pass

        pipe = self.serve(brief)
        pipe.feed(b"x" * 1000)
        assert pipe.wire._reader.buffered == 0
        pipe.lose()

    def test_close_reads_on_to_see_the_peers_end(self) -> None:
        gate: Deferred[None] = Deferred()

        async def busy(wire: HeadServer) -> None:
            await gate

        pipe = self.serve(busy)
        pipe.feed(b"x" * 300)
        assert pipe.paused()
        gate.callback(None)
        assert pipe.closing()
        assert not pipe.paused()
        pipe.lose()

    def test_abort(self) -> None:
        async def converse(wire: HeadServer) -> None:
            wire.abort()

        pipe = self.serve(converse)
        assert pipe.aborted
        pipe.lose()

    def test_two_receivers_at_once_are_a_mistake(self) -> None:
        wire = HeadServer(self.clock, LIMITS, echo)
        pipe = Pipe(wire)
        assert isinstance(failure_of(Deferred.fromCoroutine(wire.receive())), RuntimeError)
        pipe.lose()


class TestHandOver:
    """The way of a connection from heads to bytes."""

    def setup_method(self) -> None:
        self.clock = Clock()
        self.taker = Taker()
        self.rest: list[bytes] = []
        self.relaying: Deferred[None] = Deferred()

    def teardown_method(self) -> None:
        assert self.clock.getDelayedCalls() == []

    async def switch(self, wire: HeadServer) -> None:
        await wire.receive()
        transport, rest = wire.hand_over()
        assert transport is wire.transport
        self.rest.append(rest)
        wire.set_receiver(self.taker)
        await self.relaying

    def serve(self, converse: Converse) -> Pipe:
        return Pipe(HeadServer(self.clock, LIMITS, converse))

    def test_bytes_after_the_head_and_further_ones(self) -> None:
        pipe = self.serve(self.switch)
        pipe.feed(request("/") + b"first")
        pipe.feed(b"second")
        pipe.feed(request("/third"))
        assert self.rest == [b"first"]
        assert self.taker.got == [b"second", request("/third")]
        assert pipe.producer is None
        assert not pipe.paused()
        self.clock.advance(10_000)
        assert not pipe.closing()
        pipe.lose()

    @given(st.data(), st.binary(max_size=100))
    def test_nothing_is_lost_at_the_switch(self, data: st.DataObject, after: bytes) -> None:
        self.setup_method()
        pipe = self.serve(self.switch)
        for chunk in data.draw(strategies.chunked(request("/") + after)):
            pipe.feed(chunk)
        assert self.rest[0] + b"".join(self.taker.got) == after
        pipe.lose()

    def test_loss_goes_to_the_receiver_who_sees_the_conversation_out(self) -> None:
        pipe = self.serve(self.switch)
        pipe.feed(request("/"))
        pipe.lose()
        assert self.taker.lost == [LOST]
        assert not self.relaying.called
        assert "dataReceived" not in pipe.wire.__dict__

    def test_end_of_the_conversation_leaves_the_transport_to_the_receiver(self) -> None:
        pipe = self.serve(self.switch)
        pipe.feed(request("/"))
        self.relaying.callback(None)
        assert (pipe.closing(), pipe.aborted) == (False, False)
        pipe.lose()

    def test_failed_relay_is_cut(self) -> None:
        pipe = self.serve(self.switch)
        pipe.feed(request("/"))
        with capturedLogs() as logged:
            self.relaying.errback(ZeroDivisionError())
        assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
        assert pipe.aborted
        pipe.lose()

    def test_paused_until_there_is_a_receiver_and_cut_if_there_never_is(self) -> None:
        gate: Deferred[None] = Deferred()

        async def forgetful(wire: HeadServer) -> None:
            await wire.receive()
            wire.hand_over()
            await gate

        pipe = self.serve(forgetful)
        pipe.feed(request("/"))
        assert pipe.paused()
        gate.callback(None)
        assert pipe.aborted
        pipe.lose()

    def test_bytes_before_there_is_a_receiver(self) -> None:
        gate: Deferred[None] = Deferred()

        async def late(wire: HeadServer) -> None:
            await wire.receive()
            wire.hand_over()
            await gate
            wire.set_receiver(self.taker)

        pipe = self.serve(late)
        pipe.feed(request("/"))
        pipe.feed(b"early")
        gate.callback(None)
        pipe.feed(b"late")
        assert self.taker.got == [b"early", b"late"]
        pipe.lose()

    def test_loss_before_there_is_a_receiver(self) -> None:
        wires: list[HeadServer] = []
        ends: list[str] = []

        async def late(wire: HeadServer) -> None:
            wires.append(wire)
            await wire.receive()
            wire.hand_over()
            try:
                await self.relaying
            except CancelledError:
                ends.append("cancelled")
                raise

        pipe = self.serve(late)
        pipe.feed(request("/"))
        pipe.lose()
        assert ends == ["cancelled"]
        wires[0].set_receiver(self.taker)
        assert self.taker.lost == [LOST]

    def test_nothing_to_hand_over_when_the_peer_is_gone(self) -> None:
        wire = HeadServer(self.clock, LIMITS, echo)
        Pipe(wire).lose()
        with pytest.raises(ConnectionClosed):
            wire.hand_over()


class TestClient:
    """L{ResponseClient}."""

    def setup_method(self) -> None:
        self.clock = Clock()
        self.wire = ResponseClient(self.clock, 100, 50)
        self.pipe = Pipe(self.wire)

    def teardown_method(self) -> None:
        self.pipe.lose()
        assert self.clock.getDelayedCalls() == []

    def receive(self) -> Deferred[Response]:
        return Deferred.fromCoroutine(self.wire.receive())

    def test_responses_one_after_the_other(self) -> None:
        self.wire.send(b"request")
        assert self.pipe.value() == b"request"
        first = self.receive()
        assert not first.called
        self.pipe.feed(encode_interim(102, []) + encode_response(200, [], b"body"))
        assert result_of(first).head.status == 102
        assert result_of(self.receive()).body == b"body"

    def test_too_much_is_refused(self) -> None:
        got = self.receive()
        self.pipe.feed(encode_response(200, [], b"x" * 51))
        assert isinstance(failure_of(got), RemoteProtocolError)

    def test_flood_without_a_receiver_pauses(self) -> None:
        self.pipe.feed(b"x" * 151)
        assert self.pipe.paused()
        assert isinstance(failure_of(self.receive()), RemoteProtocolError)
        assert not self.pipe.paused()

    def test_loss(self) -> None:
        got = self.receive()
        self.pipe.lose()
        assert isinstance(failure_of(got), ConnectionClosed)

    def test_cancelled_wait_leaves_room_for_the_next(self) -> None:
        got = self.receive()
        got.cancel()
        assert isinstance(failure_of(got), CancelledError)
        again = self.receive()
        self.pipe.feed(encode_response(200, [], b"x"))
        assert result_of(again).body == b"x"

    def test_switch(self) -> None:
        self.pipe.feed(encode_interim(101, []) + b"NX")
        assert result_of(self.receive()).head.status == 101
        assert self.wire.hand_over() == (self.pipe.transport, b"NX")

    def test_close_ends_a_wait(self) -> None:
        got = self.receive()
        self.wire.close()
        assert isinstance(failure_of(got), ConnectionClosed)
        assert self.pipe.closing()


def test_timeouts_have_a_status() -> None:
    assert HeadTimeout("x").status_hint == 408
