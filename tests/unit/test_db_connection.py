"""L{qvd.db.connection}: what needs no server."""

from __future__ import annotations

import socket
from itertools import islice
from random import Random
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import POLL_OK, parse_dsn
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from qvd.db.connection import FIRST_BACK_OFF, LONGEST_BACK_OFF, Address, Link, back_off, reason_of, within
from qvd.model.errors import DatabaseUnavailable
from qvd.model.secret import Secret
from tests.fakes.threads import ThreadedReactor


def outcome(limited: Deferred[Any]) -> list[Any]:
    """Holds the result, or the exception, once there is one."""
    found: list[Any] = []
    limited.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def test_in_time() -> None:
    clock, operation = Clock(), Deferred[int]()
    found = outcome(within(clock, 5, operation))
    operation.callback(1)
    assert found == [1]
    assert clock.getDelayedCalls() == []


def test_late() -> None:
    clock = Clock()
    found = outcome(within(clock, 5, Deferred[int]()))
    clock.advance(4.9)
    assert found == []
    clock.advance(0.1)
    assert isinstance(found[0], DatabaseUnavailable)
    assert "within 5 s" in found[0].text
    assert found[0].retry_after == 5


def test_cancelled_by_the_caller() -> None:
    clock = Clock()
    limited = within(clock, 5, Deferred[int]())
    found = outcome(limited)
    limited.cancel()
    assert isinstance(found[0], CancelledError)
    assert clock.getDelayedCalls() == []


def test_other_errors_pass() -> None:
    clock = Clock()
    found = outcome(within(clock, 5, Deferred[int](lambda operation: operation.errback(ValueError("own")))))
    clock.advance(5)
    assert isinstance(found[0], ValueError)


def test_back_off() -> None:
    delays = list(islice(back_off(Random(1)), 20))
    assert all(FIRST_BACK_OFF / 2 <= delay <= LONGEST_BACK_OFF for delay in delays)
    assert delays[0] <= FIRST_BACK_OFF
    assert delays[-1] >= LONGEST_BACK_OFF / 2
    assert delays != list(islice(back_off(Random(2)), 20))


def known(address: Address, reactor: Any = None) -> dict[str, str]:
    """The parameters that libpq gets."""
    found = outcome(Deferred.fromCoroutine(address.dsn(reactor)))
    return dict(parse_dsn(found[0].reveal()))


def test_address() -> None:
    text = Address("postgresql://alice:pw@10.0.0.1/qvd?connect_timeout=1", 8, "qvd")
    parts = Address({"host": "/run/pg", "user": "alice", "password": Secret("pw")}, 7.5, "qvd")
    assert known(text)["host"] == "10.0.0.1"
    assert known(parts)["password"] == "pw"
    assert known(parts)["application_name"] == "qvd"
    assert text.set_up == {"longest": "10000"}
    assert parts.set_up == {"longest": "9500"}
    assert "pw" not in repr(vars(text)) + repr(vars(parts))
    with pytest.raises(psycopg2.ProgrammingError):
        Address("nonsense", 1, "qvd")


def test_reason_of() -> None:
    assert reason_of(psycopg2.OperationalError("refused\n\tIs the server running?\n")) == "refused"
    assert reason_of(psycopg2.InterfaceError()) == "InterfaceError"


def test_a_host_name_is_looked_up_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, port, type: [(0, 0, 0, "", (f"192.0.2.{len(name)}", 0))])
    reactor = ThreadedReactor()
    address = Address({"host": "db1,database2", "user": "alice"}, 8, "qvd")
    found = outcome(Deferred.fromCoroutine(address.dsn(reactor)))
    assert found == []
    reactor.pool.finish()
    parameters = parse_dsn(found[0].reveal())
    assert (parameters["host"], parameters["hostaddr"]) == ("db1,database2", "192.0.2.3,192.0.2.9")


@pytest.mark.parametrize("host", ["", "/run/pg", "@abstract", "192.0.2.1", "2001:db8::1"])
def test_nothing_else_is_looked_up(host: str) -> None:
    assert "hostaddr" not in known(Address({"host": host, "user": "alice"}, 8, "qvd"))


def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    reactor = ThreadedReactor()
    found = outcome(Deferred.fromCoroutine(Address("host=nowhere", 8, "qvd").dsn(reactor)))
    reactor.pool.finish()
    assert isinstance(found[0], DatabaseUnavailable)
    assert found[0].text == "The name of the database's host (nowhere): Name or service not known"


class SocketlessConnection:
    """As psycopg2 is for a moment when the server's parting words and the end of the stream come in one read."""

    closed = 0
    notifies: list[Any] = []

    def poll(self) -> int:
        return POLL_OK

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = 1


class Epoll(Clock):
    """A reactor that takes descriptors as epoll does."""

    def addReader(self, reader: Any) -> None:
        if reader.fileno() < 0:
            raise ValueError("file descriptor cannot be a negative integer (-1)")

    def removeReader(self, reader: Any) -> None:
        pass

    removeWriter = removeReader


def socketless() -> tuple[Link, list[str]]:
    reasons: list[str] = []
    link = Link(Epoll(), lambda _, reason: reasons.append(reason))
    link._connection = SocketlessConnection()
    return link, reasons


def test_a_socket_that_is_gone_without_an_error_ends_the_link() -> None:
    link, reasons = socketless()
    link.doRead()
    assert link.dead
    assert reasons == ["the server closed the connection"]


def test_so_after_a_statement() -> None:
    link, reasons = socketless()
    cursor: Any = object()
    link._cursors = {cursor}
    link.cursorFinished(cursor)
    assert link.dead
    assert reasons == ["the server closed the connection"]
