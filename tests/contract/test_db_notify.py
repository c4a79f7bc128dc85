"""L{qvd.db.notify} against a real server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from qvd.db import notify
from qvd.db.notify import Bells
from qvd.interfaces import IBells
from tests.fakes.asynchronous import pause, spawn, until
from tests.fakes.postgres import RealPostgres
from tests.fakes.tcp_proxy import FaultyProxy

NewBells = Callable[..., Bells]


@pytest_twisted.async_yield_fixture
async def new_bells(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NewBells]:
    """Makes bells, not started, on the test's own database; they are stopped in the end.

    No keep-alive query saves a bell that was overlooked.
    """
    monkeypatch.setattr(notify, "KEEP_ALIVE", 3600.0)
    made: list[Bells] = []

    def new(dsn: str = empty_database) -> Bells:
        made.append(Bells(reactor, dsn, random.Random(1)))
        return made[-1]

    yield new
    for bells in made:
        await bells.stop()


def ring(dsn: str, channel: str, payload: str = "") -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))
    finally:
        connection.close()


@pytest_twisted.ensureDeferred
async def test_rings(new_bells: NewBells, empty_database: str) -> None:
    bells = new_bells()
    assert verifyObject(IBells, bells)
    first: list[str] = []
    second: list[str] = []
    bells.listen("first", first.append)
    bells.start()
    await until(lambda: first == [""])
    assert bells.available
    # A channel that comes while it is connected, and one more listener of a channel that is there.
    end_second = bells.listen("second", second.append)
    end_other = bells.listen("first", second.append)
    await until(lambda: second == [""])
    ring(empty_database, "first", "1")
    ring(empty_database, "second", "2")
    ring(empty_database, "third", "3")
    await until(lambda: sorted(second) == ["", "1", "2"])
    assert first == ["", "1"]
    # The reactor stands still between the question (UNLISTEN) and the bell, so answer and bell are read together.
    end_second()
    end_second()
    end_other()
    ring(empty_database, "second", "4")
    ring(empty_database, "first", "5")
    await until(lambda: first == ["", "1", "5"])
    assert sorted(second) == ["", "1", "2"]


@pytest_twisted.ensureDeferred
async def test_unsubscribes(new_bells: NewBells, empty_database: str) -> None:
    bells = new_bells()
    heard: list[str] = []
    bells.start()
    ends = [bells.listen(name, heard.append) for name in ("a", "b")]
    await until(lambda: bells._subscribed == {"a", "b"})
    ends[0]()
    await until(lambda: bells._subscribed == {"b"})
    ring(empty_database, "a", "lost")
    ring(empty_database, "b", "heard")
    await until(lambda: "heard" in heard)
    assert "lost" not in heard


@pytest.mark.parametrize("name", ["", "A", "a b", "a;b", "a" * 64, 'a"', "ä"])
def test_names_of_channels(name: str) -> None:
    bells = Bells(reactor, "", random.Random(1))
    with pytest.raises(ValueError, match="channel"):
        bells.listen(name, lambda _: None)


@pytest_twisted.ensureDeferred
async def test_a_listener_that_fails(new_bells: NewBells, empty_database: str) -> None:
    bells = new_bells()
    heard: list[str] = []
    failures: list[Any] = []

    def fail(payload: str) -> None:
        raise ValueError(payload)

    def observe(event: dict[str, Any]) -> None:
        if "qvd.db" in event["log_namespace"] and "log_failure" in event:
            failures.append(event["log_failure"].value)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        bells.listen("a", fail)
        bells.listen("a", heard.append)
        bells.start()
        await until(lambda: heard == [""])
        ring(empty_database, "a", "1")
        await until(lambda: heard == ["", "1"])
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert [str(failure) for failure in failures] == ["", "1"]


@pytest_twisted.ensureDeferred
async def test_server_restarts(
    new_bells: NewBells, postgres: RealPostgres, empty_database: str, logged: list[dict[str, Any]]
) -> None:
    bells = new_bells()
    heard: list[str] = []
    bells.listen("a", heard.append)
    bells.start()
    await until(lambda: heard == [""])
    await deferToThread(postgres.stop)
    await until(lambda: not bells.available)
    other: list[str] = []
    bells.listen("b", other.append)
    postgres.start()
    await until(lambda: heard == ["", ""] and other == [""], "the ring after the reconnection")
    ring(empty_database, "a", "1")
    ring(empty_database, "b", "2")
    await until(lambda: heard == ["", "", "1"] and other == ["", "2"])
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info]


@pytest_twisted.ensureDeferred
async def test_silent_loss(
    new_bells: NewBells,
    postgres: RealPostgres,
    empty_database: str,
    proxy: tuple[FaultyProxy, int],
    logged: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network swallows everything: only the keep-alive query can notice."""
    monkeypatch.setattr(notify, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(notify, "DEADLINE", 0.3)
    faulty, port = proxy
    bells = new_bells(postgres.over_tcp(empty_database, port))
    heard: list[str] = []
    bells.listen("a", heard.append)
    bells.start()
    await until(lambda: heard == [""])
    await pause(0.3)
    assert bells.available
    faulty.mute()
    await until(lambda: not bells.available)
    faulty.cut()
    faulty.unmute()
    await until(lambda: heard == ["", ""])
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info]


@pytest_twisted.ensureDeferred
async def test_server_comes_later(
    new_bells: NewBells,
    postgres: RealPostgres,
    empty_database: str,
    proxy: tuple[FaultyProxy, int],
    logged: list[dict[str, Any]],
) -> None:
    faulty, port = proxy
    faulty.refusing = True
    bells = new_bells(postgres.over_tcp(empty_database, port))
    heard: list[str] = []
    bells.listen("a", heard.append)
    bells.start()
    await until(lambda: logged)
    assert heard == []
    faulty.refusing = False
    await until(lambda: heard == [""])


@pytest_twisted.ensureDeferred
async def test_stop(new_bells: NewBells, empty_database: str, logged: list[dict[str, Any]]) -> None:
    bells, others = new_bells(), new_bells()
    heard: list[str] = []
    witnessed: list[str] = []
    bells.listen("a", heard.append)
    others.listen("a", witnessed.append)
    bells.start()
    others.start()
    await until(lambda: heard == [""] and witnessed == [""])
    await bells.stop()
    assert not bells.available
    ring(empty_database, "a", "1")
    await until(lambda: witnessed == ["", "1"])
    assert heard == [""]
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_stopped_by_a_listener(new_bells: NewBells, empty_database: str) -> None:
    """The first ring comes from inside of the coroutine that is to be stopped."""
    bells = new_bells()
    heard: list[str] = []

    def end(payload: str) -> None:
        heard.append(payload)
        spawn(bells.stop())

    bells.listen("a", end)
    bells.listen("b", heard.append)
    bells.start()
    await until(lambda: heard)
    await pause(0.3)
    assert heard == [""]
    connection = psycopg2.connect(empty_database)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qvd bells'"
                " AND datname = current_database()"
            )
            assert cursor.fetchone() == (0,)
    finally:
        connection.close()
