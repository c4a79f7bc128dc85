"""L{qvd.client.wire}: nothing before the proof, a deadline for each answer, and no byte lost at the switch."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from qvd.client.errors import ClientError, Exit
from qvd.client.wire import ServerConnection
from qvd.protocols.http1 import encode_interim, encode_response

make_failure: Any = Failure
DONE = make_failure(ConnectionDone())
SWITCH = encode_interim(101, [("X-QVD-Slave-Key", "abc")])
ANSWER = encode_response(200, [], b"done")


def progress(text: str) -> bytes:
    return encode_interim(102, [("X-QVD-VM-Info", text)])


class FakeTLS:
    def __init__(self, error: ClientError | None = None) -> None:
        self._error = error

    def check(self, connection: object) -> None:
        if self._error is not None:
            raise self._error

    def explain(self) -> str:
        return "It is not the right one"


class Transport(StringTransport):
    """With a TLS handle."""

    def getHandle(self) -> None:
        """Nothing that anybody looks at."""

    def unregisterProducer(self) -> None:
        """Real transports take it well when there is none."""
        self.producer = None


make_transport: Any = Transport


class Wire:
    """A connection under test and both its ends."""

    def __init__(self, error: ClientError | None = None) -> None:
        tls: Any = FakeTLS(error)
        self.clock = Clock()
        self.told: list[str] = []
        self.transport: Any = make_transport()
        self.connection = ServerConnection(self.clock, tls)
        make_connection: Any = self.connection.makeConnection
        make_connection(self.transport)
        self.ready = watch(self.connection.ready)

    def exchange(self) -> list[Any]:
        return watch(self.connection.exchange(b"request", 5.0, self.told.append))

    def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.dataReceived(piece)


def watch(work: Coroutine[Any, Any, Any] | Deferred[Any]) -> list[Any]:
    """Where its outcome will stand."""
    seen: list[Any] = []
    (work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)).addBoth(seen.append)
    return seen


def error_in(seen: list[Any]) -> ClientError:
    assert isinstance(seen[0], Failure)
    assert isinstance(seen[0].value, ClientError)
    return seen[0].value


def test_proof() -> None:
    wire = Wire()
    assert wire.ready == []
    wire.connection.handshakeCompleted()
    assert wire.ready == [None]


def test_no_proof() -> None:
    wire = Wire(ClientError(Exit.UNREACHABLE, "Somebody else"))
    wire.connection.handshakeCompleted()
    assert error_in(wire.ready).text == "Somebody else"
    assert wire.transport.disconnected
    assert wire.transport.value() == b""


def test_failed_handshake() -> None:
    wire = Wire()
    wire.connection.connectionLost(make_failure(SSL.Error([])))
    assert error_in(wire.ready).text == "It is not the right one"


def test_giving_up_on_the_handshake_cuts_the_connection() -> None:
    wire = Wire()
    wire.connection.ready.cancel()
    assert len(wire.ready) == 1
    assert wire.transport.disconnected


def test_exchange() -> None:
    wire = Wire()
    seen = wire.exchange()
    assert wire.transport.value() == b"request"
    wire.receive(progress("one"), progress("two") + ANSWER[:30], ANSWER[30:])
    assert wire.told == ["one", "two"]
    assert (seen[0].head.status, seen[0].body) == (200, b"done")
    assert wire.clock.getDelayedCalls() == []


def test_each_report_starts_the_deadline_anew() -> None:
    wire = Wire()
    seen = wire.exchange()
    for _ in range(3):
        wire.clock.advance(4.9)
        wire.receive(progress("patience"))
    assert seen == []
    wire.clock.advance(5.0)
    assert error_in(seen).exit is Exit.UNREACHABLE
    assert "5 s" in error_in(seen).text


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * 20_000]
)
def test_nonsense(data: bytes) -> None:
    wire = Wire()
    seen = wire.exchange()
    wire.receive(data)
    assert error_in(seen).exit is Exit.REFUSED
    assert "cannot be understood" in error_in(seen).text


def test_closed_before_and_after_the_question() -> None:
    wire = Wire()
    wire.connection.handshakeCompleted()
    seen = wire.exchange()
    wire.connection.connectionLost(DONE)
    for errors in (seen, wire.exchange()):
        assert error_in(errors).exit is Exit.UNREACHABLE
        assert "closed the connection" in error_in(errors).text


def test_bytes_after_the_switch_come_first_and_in_order() -> None:
    wire = Wire()
    seen = wire.exchange()
    wire.receive(SWITCH + b"one ", b"two ")
    assert seen[0].head.status == 101
    taken: list[bytes] = []
    ends: list[Failure] = []
    wire.connection.attach(taken.append, ends.append)
    wire.receive(b"three")
    assert b"".join(taken) == b"one two three"
    wire.connection.connectionLost(DONE)
    assert ends == [DONE]


def test_flood_after_the_switch_is_held_back() -> None:
    wire = Wire()
    wire.exchange()
    wire.receive(SWITCH)
    for _ in range(40):
        wire.receive(b"x" * 65536)
        if wire.transport.producerState == "paused":
            break
    assert wire.transport.producerState == "paused"
    wire.connection.attach(lambda data: None, lambda reason: None)
    assert wire.transport.producerState == "producing"


def test_gone_before_anybody_takes_the_bytes() -> None:
    wire = Wire()
    wire.exchange()
    wire.receive(SWITCH)
    wire.connection.connectionLost(DONE)
    ends: list[Failure] = []
    wire.connection.attach(lambda data: None, ends.append)
    assert ends == [DONE]


def test_finish_waits_for_the_end_and_not_for_ever() -> None:
    wire = Wire()
    finished = watch(wire.connection.finish())
    assert wire.transport.disconnecting
    assert finished == []
    wire.clock.advance(60)
    assert wire.transport.disconnected
    wire.connection.connectionLost(DONE)
    assert finished == [None]
    assert watch(wire.connection.finish()) == [None]
