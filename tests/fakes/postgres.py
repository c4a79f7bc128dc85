"""
A private PostgreSQL for tests, started once per run; each test gets a database of its own, copied from a template.

The fixtures are for C{tests/conftest.py} to import: C{postgres}, C{schema_template}, C{database}.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from qvd.db import migrate
from qvd.demo.postgres import EmbeddedPostgres

TEMPLATE = "qvd_template"
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


class RealPostgres:
    """A server that can be restarted, paused and asked for databases.

    It listens on a UNIX socket and on 127.0.0.1, where it asks for a password; a restart keeps both addresses.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="qvd-pg-"))
        self._server = EmbeddedPostgres(self._folder / "pg", tcp=True, settings=SETTINGS)
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._paused: list[psutil.Process] = []

    @property
    def pid(self) -> int | None:
        """Of the server, while it runs."""
        return self._server.pid

    @property
    def port(self) -> int:
        """On 127.0.0.1: what a proxy dials."""
        return self._server.port

    def start(self) -> None:
        """Start it; no effect when it runs. In the main thread, since the server ends with the thread."""
        self._server.start()

    def stop(self, mode: str = "fast") -> None:
        """Stop it, and return when it is gone."""
        self.resume()
        self._server.stop(mode)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Stop the server's processes without a word to anybody (SIGSTOP): connections stay, nothing answers."""
        assert self.pid is not None
        server = psutil.Process(self.pid)
        os.kill(server.pid, signal.SIGSTOP)
        self._paused = [server, *server.children(recursive=True)]
        for process in self._paused[1:]:
            process.suspend()

    def resume(self) -> None:
        """Undo L{pause}. No effect without one."""
        paused, self._paused = self._paused, []
        for process in paused:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                pass

    def create_database(self, template: str | None = None) -> str:
        """A new database, empty or a copy of C{template}; its DSN for the superuser over the UNIX socket."""
        name = next(self._names)
        self._server.create_database(name, template)
        return self._server.dsn(name)

    def drop_database(self, dsn: str) -> None:
        """Remove it, whoever is connected. No effect while the server is stopped."""
        if self.pid is None:
            return
        connection = psycopg2.connect(self._server.dsn("postgres"))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {parse_dsn(dsn)['dbname']} WITH (FORCE)")
        finally:
            connection.close()

    def make_template(self, name: str) -> str:
        """An empty database under this name; its DSN."""
        self._server.create_database(name)
        return self._server.dsn(name)

    def over_tcp(self, dsn: str, port: int | None = None) -> str:
        """The same database through 127.0.0.1.

        @param port: of a proxy in between.
        """
        wanted = self._server.dsn(parse_dsn(dsn)["dbname"], tcp=True)
        return psycopg2.extensions.make_dsn(wanted, port=port or self.port)

    def as_role(self, dsn: str, role: str) -> str:
        """The same database for another role, over the UNIX socket."""
        return psycopg2.extensions.make_dsn(dsn, user=role)

    def close(self) -> None:
        """Stop the server and remove all that it wrote."""
        self.stop("immediate")
        shutil.rmtree(self._folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[RealPostgres]:
    """The run's server. A test that stops or pauses it starts it again."""
    server = RealPostgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def schema_template(postgres: RealPostgres) -> str:
    """Name of a database with the schema and without rows; roles C{qvd_node} and C{qvd_api} may log in."""
    migrate.initialize(postgres.make_template(TEMPLATE), login_roles=True)
    return TEMPLATE


@pytest.fixture
def database(postgres: RealPostgres, schema_template: str) -> Iterator[str]:
    """DSN of a database of the test's own, with the schema."""
    postgres.start()
    dsn = postgres.create_database(schema_template)
    yield dsn
    postgres.resume()
    postgres.start()
    postgres.drop_database(dsn)


@pytest.fixture
def empty_database(postgres: RealPostgres) -> Iterator[str]:
    """DSN of a database of the test's own, without the schema."""
    postgres.start()
    dsn = postgres.create_database()
    yield dsn
    postgres.resume()
    postgres.start()
    postgres.drop_database(dsn)
