"""The node calls, the agent answers; and everything that either may do wrong."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from qvd.interfaces import IGuest, IGuestDialer
from qvd.model.errors import GuestError, PermanentError
from qvd.model.records import Guest
from qvd.model.secret import Secret
from qvd.protocols.adapters.rpc import MAX_CONNECTIONS, REPLY_BODY, GuestDialer, RPCServerFactory
from qvd.protocols.http1 import encode_interim, encode_response
from qvd.protocols.simplerpc import encode_error, encode_result

T = TypeVar("T")
GUEST = Guest("10.3.0.7", 3030, 4100, Secret("s3cret"))
REFUSED: Failure = cast(Any, Failure)(cast(Any, ConnectionRefusedError)())
DONE: Failure = cast(Any, Failure)(ConnectionDone())


class Pipe:
    """One connection's transport."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = cast(Any, StringTransport)()
        self.aborted = False
        self.transport.abortConnection = self._abort
        protocol.makeConnection(self.transport)

    def _abort(self) -> None:
        self.aborted = True

    def closing(self) -> bool:
        return bool(self.transport.disconnecting)

    def take(self) -> bytes:
        """What was written since the last time."""
        written = bytes(self.transport.value())
        self.transport.clear()
        return written

    def feed(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        self.protocol.connectionLost(DONE)


class TestCaller:
    """L{GuestDialer} and what it dials."""

    def setup_method(self) -> None:
        self.reactor = cast(Any, MemoryReactorClock)()
        self.guest = GuestDialer(cast(IReactorTCP, self.reactor)).dial(GUEST)

    def teardown_method(self) -> None:
        assert self.reactor.getDelayedCalls() == []

    def begin(self, call: Coroutine[Any, Any, T]) -> tuple[list[T | BaseException], Deferred[T], Pipe]:
        """Make a call, and connect."""
        results, calling = self.dial(call)
        _, _, factory, _, _ = self.reactor.tcpClients[-1]
        return results, calling, Pipe(factory.buildProtocol(None))

    def dial(self, call: Coroutine[Any, Any, T]) -> tuple[list[T | BaseException], Deferred[T]]:
        results: list[T | BaseException] = []
        calling = Deferred.fromCoroutine(call)
        calling.addCallbacks(results.append, lambda failure: results.append(failure.value))
        return results, calling

    def refusal(self, call: Coroutine[Any, Any, Any], answer: bytes) -> str:
        results, _, pipe = self.begin(call)
        pipe.feed(answer)
        assert pipe.aborted or pipe.closing()
        pipe.lose()
        return self.text(results)

    def text(self, results: list[Any]) -> str:
        (error,) = results
        assert isinstance(error, GuestError)
        assert error.text.isprintable()
        return error.text

    def test_ports(self) -> None:
        verifyObject(IGuestDialer, GuestDialer(cast(IReactorTCP, self.reactor)))
        verifyObject(IGuest, self.guest)

    def test_whole_call(self) -> None:
        results, _, pipe = self.begin(self.guest.x_start({"qvd.client.os": "linux"}))
        host, port, *_ = self.reactor.tcpClients[-1]
        assert (host, port) == ("10.3.0.7", 3030)
        head, rest = pipe.take().split(b"\r\n", 1)
        assert head == b"GET /vma/x_start?qvd.client.os=linux HTTP/1.1"
        assert b"\r\nAuthorization: Bearer s3cret\r\n" in rest
        for byte in encode_interim(102, []) + encode_result("starting"):
            pipe.feed(bytes([byte]))
        assert results == ["starting"]
        assert pipe.closing()
        assert not pipe.aborted
        pipe.lose()

    @pytest.mark.parametrize("method", ["ping", "poweroff"])
    def test_results_that_do_not_matter(self, method: str) -> None:
        for answer in (None, 1, "x"):
            results, _, pipe = self.begin(getattr(self.guest, method)())
            assert pipe.take().startswith(f"GET /vma/{method} HTTP".encode())
            pipe.feed(encode_result(answer))
            assert results == [None]
            pipe.lose()

    def test_an_expiry(self) -> None:
        results, _, pipe = self.begin(self.guest.expire({"vm.expiration.soft": "2026-01-31 18:00:00"}))
        assert pipe.take().startswith(b"GET /vma/expire?vm.expiration.soft=2026-01-31%2018%3A00%3A00 HTTP")
        pipe.feed(encode_result(1))
        assert results == [None]
        pipe.lose()

    def test_a_hook_that_waits_for_the_user(self) -> None:
        results, _, pipe = self.begin(self.guest.expire({}))
        self.reactor.advance(4)
        assert results == [None]
        pipe.lose()

    def test_an_expiry_that_nobody_hears(self) -> None:
        assert self.refusal(self.guest.expire({}), encode_error("the hook fails")) == "the hook fails"

    @pytest.mark.parametrize("method", ["x_state", "x_suspend"])
    def test_states(self, method: str) -> None:
        results, _, pipe = self.begin(getattr(self.guest, method)())
        pipe.feed(encode_result("suspended"))
        assert results == ["suspended"]
        pipe.lose()

    @pytest.mark.parametrize("answer", [None, 5, "", "a b", "x\n", "ñ", ["listening"]])
    def test_states_that_are_none(self, answer: object) -> None:
        assert "no state" in self.refusal(self.guest.x_state(), encode_result(answer))

    def test_error_of_the_agent(self) -> None:
        assert self.refusal(self.guest.x_start({}), encode_error("retry\x1b later\n")) == "retry  later"

    @pytest.mark.parametrize(
        "answer",
        [
            b"nonsense\n\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[[[",
            encode_response(200, [], b"x" * (REPLY_BODY + 1)),
            encode_response(404, [], b"no"),
            encode_response(401, [], b"no"),
            b"x" * 9000,
        ],
    )
    def test_nonsense(self, answer: bytes) -> None:
        assert "no valid answer" in self.refusal(self.guest.ping(), answer)

    def test_hung_up(self) -> None:
        results, _, pipe = self.begin(self.guest.ping())
        pipe.lose()
        assert "hung up" in self.text(results)

    def test_refused(self) -> None:
        results, _ = self.dial(self.guest.ping())
        _, _, factory, _, _ = self.reactor.tcpClients[-1]
        factory.clientConnectionFailed(None, REFUSED)
        assert "cannot be reached" in self.text(results)

    def test_no_connection_in_time(self) -> None:
        results, _ = self.dial(self.guest.ping())
        self.reactor.advance(4)
        assert "has not answered in 4 s" in self.text(results)

    def test_deadline_is_of_the_whole_call(self) -> None:
        results, _, pipe = self.begin(self.guest.ping())
        for byte in encode_interim(102, [])[:3]:
            pipe.feed(bytes([byte]))
            self.reactor.advance(1)
        assert results == []
        pipe.feed(encode_interim(102, [])[3:])
        self.reactor.advance(1)
        assert "has not answered in 4 s" in self.text(results)
        assert pipe.aborted
        pipe.lose()

    def test_cancelled(self) -> None:
        results, calling, pipe = self.begin(self.guest.ping())
        calling.cancel()
        assert isinstance(results[0], CancelledError)
        assert pipe.aborted
        pipe.lose()

    def test_cancelled_before_there_is_a_connection(self) -> None:
        results, calling = self.dial(self.guest.ping())
        calling.cancel()
        assert isinstance(results[0], CancelledError)

    def test_what_cannot_be_sent(self) -> None:
        results, _ = self.dial(self.guest.x_start({"a": "\ud800"}))
        assert "cannot be told" in self.text(results)
        assert self.reactor.tcpClients == []


class TestAgent:
    """L{RPCServerFactory}."""

    def setup_method(self) -> None:
        self.clock = cast(Any, MemoryReactorClock)()
        self.asked: list[Mapping[str, str]] = []
        self.waiting: Deferred[object] = Deferred()
        self.factory = self.serve(Secret("s3cret"))

    def teardown_method(self) -> None:
        assert self.clock.getDelayedCalls() == []

    def serve(self, secret: Secret | None) -> RPCServerFactory:
        methods = {"x_state": self.x_state, "fail": self.fail, "crash": self.crash, "wait": self.wait, "odd": self.odd}
        return RPCServerFactory(self.clock, secret, methods, timeout=20)

    async def x_state(self, arguments: Mapping[str, str]) -> object:
        self.asked.append(arguments)
        return "stopped"

    async def fail(self, arguments: Mapping[str, str]) -> object:
        raise PermanentError("Not here")

    async def crash(self, arguments: Mapping[str, str]) -> object:
        raise ZeroDivisionError("canary")

    async def odd(self, arguments: Mapping[str, str]) -> object:
        return object()

    async def wait(self, arguments: Mapping[str, str]) -> object:
        return await self.waiting

    def connect(self) -> Pipe:
        return Pipe(self.factory.buildProtocol(None))

    def call(self, pipe: Pipe, target: str, secret: str | None = "s3cret") -> bytes:
        header = f"Authorization: Bearer {secret}\r\n" if secret is not None else ""
        pipe.feed(f"GET {target} HTTP/1.1\r\n{header}\r\n".encode())
        return pipe.take()

    def test_calls_on_one_connection(self) -> None:
        pipe = self.connect()
        assert self.call(pipe, "/vma/x_state?a=b%20c") == encode_result("stopped")
        assert self.call(pipe, "/vma/fail") == encode_error("Not here")
        assert self.call(pipe, "/vma/x_state") == encode_result("stopped")
        assert self.asked == [{"a": "b c"}, {}]
        pipe.lose()

    @pytest.mark.parametrize("secret", [None, "", "wrong", "s3cret2", "ñ"])
    def test_without_the_secret(self, secret: str | None) -> None:
        pipe = self.connect()
        assert self.call(pipe, "/vma/x_state", secret).startswith(b"HTTP/1.1 401 ")
        assert self.asked == []
        assert pipe.closing()
        pipe.lose()

    def test_a_stranger_learns_no_names(self) -> None:
        answers = set()
        for target in ("/vma/x_state", "/vma/nothing", "/"):
            pipe = self.connect()
            answers.add(self.call(pipe, target, "wrong"))
            pipe.lose()
        assert len(answers) == 1

    def test_open_to_all_where_there_is_no_secret(self) -> None:
        self.factory = self.serve(None)
        pipe = self.connect()
        assert self.call(pipe, "/vma/x_state", None) == encode_result("stopped")
        pipe.lose()

    @pytest.mark.parametrize("target", ["/vma/nothing", "/vma/", "/", "/vma/x_state/"])
    def test_unknown(self, target: str) -> None:
        pipe = self.connect()
        assert self.call(pipe, target).startswith(b"HTTP/1.1 404 ")
        assert not pipe.closing()
        pipe.lose()

    @pytest.mark.parametrize(("method", "error"), [("crash", ZeroDivisionError), ("odd", TypeError)])
    def test_crash_is_logged_and_not_told(self, method: str, error: type[Exception]) -> None:
        pipe = self.connect()
        with capturedLogs() as logged:
            assert self.call(pipe, f"/vma/{method}") == encode_error("internal error")
        assert [event["log_failure"].type for event in logged] == [error]
        assert not pipe.closing()
        pipe.lose()

    def test_call_that_takes_too_long(self) -> None:
        pipe = self.connect()
        assert self.call(pipe, "/vma/wait") == b""
        self.clock.advance(20)
        assert pipe.take() == encode_error("wait took longer than 20 s")
        pipe.lose()

    def test_caller_who_goes_away_cancels(self) -> None:
        cancelled: list[object] = []
        self.waiting = Deferred(cancelled.append)
        pipe = self.connect()
        self.call(pipe, "/vma/wait")
        with capturedLogs() as logged:
            pipe.lose()
        assert cancelled == [self.waiting]
        assert logged == []

    def test_bad_and_long_heads(self) -> None:
        for data, status in ((b"nonsense\n\n", b"400"), (b"x" * 65537, b"431")):
            pipe = self.connect()
            pipe.feed(data)
            assert pipe.take().startswith(b"HTTP/1.1 " + status)
            assert pipe.closing()
            pipe.lose()

    def test_session_with_long_parameters(self) -> None:
        pipe = self.connect()
        assert self.call(pipe, f"/vma/x_state?a={'%20' * 20_000}") == encode_result("stopped")
        pipe.lose()

    def test_number_of_connections(self) -> None:
        pipes = [self.connect() for _ in range(MAX_CONNECTIONS)]
        assert self.factory.buildProtocol(None) is None
        pipes.pop().lose()
        pipes.append(self.connect())
        for pipe in pipes:
            pipe.lose()

    def test_stop_closes_connections(self) -> None:
        pipe = self.connect()
        self.factory.stopFactory()
        assert pipe.closing()
        pipe.lose()
