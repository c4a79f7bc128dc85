"""The proxy does to statements and notifications exactly what it is told."""

from __future__ import annotations

import contextlib
import select
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from tests.integration.farm import eventually
from tests.soak.pgproxy import Bells, Break, PgProxy, Side, messages

READY = b"Z\0\0\0\5I"


class Way:
    """A client through the proxy, and one past it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        server = parse_dsn(dsn)
        self.proxy = PgProxy(folder / "way", Path(server["host"]), int(server["port"]))
        self.proxy.start()
        self._dsn = dsn
        self.past = self._connect(dsn)
        self.through = self.connect()

    def connect(self) -> psycopg2.extensions.connection:
        return self._connect(make_dsn(self._dsn, host=str(self.proxy.folder), port=5432))

    def _connect(self, dsn: str) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        return connection

    def run(self, connection: psycopg2.extensions.connection, sql: str) -> list[tuple[object, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def tenants(self) -> list[object]:
        """Those of this test: there are two from the beginning."""
        return [row[0] for row in self.run(self.past, "SELECT name FROM tenants WHERE id > 0 ORDER BY name")]

    def close(self) -> None:
        self.proxy.stop()
        self.past.close()
        self.through.close()


@pytest.fixture
def way(database: str) -> Iterator[Way]:
    with tempfile.TemporaryDirectory(prefix="qvd-way-") as folder:
        made = Way(database, Path(folder))
        yield made
        made.close()


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_messages_in_any_pieces(chunk: int) -> None:
    start, query = b"\0\0\0\x08\0\3\0\0", b"Q\0\0\0\x0dSELECT 1\0"
    data, buffer = start + query + READY, bytearray()
    found: list[tuple[bytes, bytes]] = []
    for position in range(0, len(data), chunk):
        buffer += data[position : position + chunk]
        for each in messages(buffer, not found):
            found.append(each)
    assert found == [(b"", start), (b"Q", query), (b"Z", READY)]


@pytest.mark.parametrize("side", Side)
def test_a_break_is_before_or_after_its_statement(way: Way, side: Side) -> None:
    acted: list[list[object]] = []
    way.proxy.set_break(Break(lambda sql: "INSERT" in sql, 2, side, lambda: acted.append(way.tenants())))
    way.run(way.through, "INSERT INTO tenants (name) VALUES ('a')")
    way.run(way.through, "SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        way.run(way.through, "INSERT INTO tenants (name) VALUES ('b')")
    assert acted == [["a"] if side is Side.BEFORE else ["a", "b"]]
    assert way.proxy.broken
    with contextlib.closing(way.connect()) as another:
        way.run(another, "INSERT INTO tenants (name) VALUES ('c')")


def test_the_end_of_a_transaction_counts_when_something_in_it_did(way: Way) -> None:
    way.proxy.set_break(Break(lambda sql: "INSERT" in sql, 1 << 30, Side.BEFORE, lambda: None))
    for sql in ("BEGIN", "SELECT 1", "COMMIT", "BEGIN", "INSERT INTO tenants (name) VALUES ('a')", "COMMIT"):
        way.run(way.through, sql)
    assert way.proxy.counted == 2
    assert not way.proxy.broken


@pytest.mark.parametrize("kind", Bells)
def test_notifications(way: Way, kind: Bells) -> None:
    way.proxy.bells = kind
    way.run(way.through, "LISTEN door")
    way.run(way.past, "NOTIFY door")
    # Those that come have come with the answer to what is asked later.
    eventually(lambda: select.select([way.through], [], [], 0.1)[0] or kind is Bells.DROP, "something is there")
    way.run(way.through, "SELECT 1")
    way.through.poll()
    assert len(way.through.notifies) == kind.value


def test_what_is_held_back_goes_on_its_way_later(way: Way) -> None:
    way.proxy.mute()
    asking = threading.Thread(target=way.run, args=(way.through, "INSERT INTO tenants (name) VALUES ('a')"))
    asking.start()
    try:
        assert way.tenants() == []
        way.proxy.heal()
        eventually(lambda: way.tenants() == ["a"], "it has arrived")
    finally:
        way.proxy.heal()
        asking.join(10)


def test_a_partition_can_be_seen(way: Way) -> None:
    way.proxy.partition()
    with pytest.raises(psycopg2.OperationalError):
        way.run(way.through, "SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        way.connect()
    way.proxy.heal()
    way.connect().close()
