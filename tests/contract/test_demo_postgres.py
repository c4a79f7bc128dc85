"""L{qvd.demo.postgres}: the embedded server, below a closed folder, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from qvd.demo import postgres as module
from qvd.demo.postgres import EmbeddedPostgres, PostgresError
from tests.fakes.asynchronous import until

CHILD = """
import sys
from pathlib import Path
from qvd.demo.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qvd-") as closed:
        yield Path(closed) / "postgres"


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start_owner(folder: Path) -> subprocess.Popen[str]:
    """A process that starts a server, prints its pid, and never stops it."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def one(server: EmbeddedPostgres, sql: str, dbname: str = "postgres") -> object:
    with closing(psycopg2.connect(server.dsn(dbname))) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def test_start_stop_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        server.start()
        pid = server.pid
        assert pid is not None
        server.create_database("qvd")
        server.create_database("qvd")
        assert one(server, "SELECT lower('Ä')", "qvd") == "ä"
        assert {oct(path.stat().st_mode & 0o777) for path in (folder, server.data, server.socket_folder)} == {"0o700"}
        assert server.data.stat().st_uid == os.geteuid()
        assert psutil.Process(pid).net_connections("tcp") == []
        server.stop()
        server.stop()
        assert server.pid is None
        assert not running(pid)
        server.start()
        assert one(server, "SELECT count(*) FROM pg_database WHERE datname = 'qvd'") == 1
    finally:
        server.stop()


def test_long_path(tmp_path: Path) -> None:
    """The path of a UNIX socket holds about a hundred bytes."""
    server = EmbeddedPostgres(tmp_path / ("long" * 30))
    try:
        server.start()
        assert one(server, "SELECT 1") == 1
        before = server.dsn("postgres")
        server.stop()
        assert not server.socket_folder.exists()
        server.start()
        assert server.dsn("postgres") == before
        assert one(server, "SELECT 1") == 1
    finally:
        server.stop()
    assert not server.socket_folder.exists()


def test_tcp_needs_the_password(folder: Path) -> None:
    server = EmbeddedPostgres(folder, tcp=True)
    try:
        server.start()
        psycopg2.connect(server.dsn("postgres", tcp=True)).close()
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", password="guess")
    finally:
        server.stop()


@pytest_twisted.ensureDeferred
async def test_ends_with_its_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, the owner can stop nothing; and the next one finds a cluster that is in order."""
    owner = start_owner(folder)
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        pid = int(owner.stdout.readline())
        assert running(pid)
        with monkeypatch.context() as patient, pytest.raises(PostgresError, match=f"already: process {pid}"):
            patient.setattr(module, "STOP_SECONDS", 0.2)
            await deferToThread(EmbeddedPostgres(folder).start)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        await until(lambda: not running(pid), "the end of the server")
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    # A number that belongs to somebody else by now, as after a crash of the machine.
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'data'}\n")
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        assert one(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_half_made_cluster(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        assert one(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_cluster_of_another_version(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresError, match="PostgreSQL 9, which is not installed"):
        EmbeddedPostgres(folder).start()


def test_server_that_ends_at_once(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings={"shared_buffers": "nonsense"})
    with pytest.raises(PostgresError, match=r"ended with status 1; see .*server\.log"):
        server.start()
    assert server.pid is None
