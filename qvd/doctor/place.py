# -*- test-case-name: tests.doctor.test_catalogue -*-
"""What checks are given: the settings of one daemon, and how to reach its database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from attrs import define, field, frozen
from psycopg2.extras import RealDictCursor

from qvd.db.connection import reason_of
from qvd.db.parameters import database_parameters
from qvd.doctor.findings import About
from qvd.model.errors import DatabaseUnavailable
from qvd.model.settings import Settings

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 5
PREFIXES: Mapping[About, str] = {About.NODE: "l7r", About.ADMIN: "admin"}
DAEMONS: Mapping[About, str] = {About.NODE: "qvd-node", About.ADMIN: "qvd-admin"}


@frozen
class Wishes:
    """What the one who asks said.

    @ivar names: that clients dial, besides those that this machine knows of itself.
    @ivar deep: read whole images.
    """

    names: Sequence[str] = ()
    deep: bool = False


class Reader:
    """A transaction that only reads."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def rows(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        self._cursor.execute(sql, parameters)
        return [dict(row) for row in self._cursor.fetchall()]

    def one(self, sql: str, parameters: Any = None) -> dict[str, Any]:
        """The only row of a query that has one."""
        return self.rows(sql, parameters)[0]


@define
class Place:
    """One daemon on this machine.

    @ivar about: which.
    @ivar path: its settings' file.
    @ivar refusal: why its database cannot be asked; L{None}: it can.
    """

    about: About
    path: Path
    settings: Settings
    wishes: Wishes = field(factory=Wishes)
    refusal: str | None = None

    @property
    def daemon(self) -> str:
        return DAEMONS[self.about]

    @property
    def prefix(self) -> str:
        """Of the keys about its port."""
        return PREFIXES[self.about]

    @property
    def driver(self) -> str:
        """Of a node."""
        return self.settings.text("vm.hypervisor")

    def file(self, key: str) -> Path:
        """A path in the settings; a daemon is started in the root folder, or in that of its settings."""
        path = Path(self.settings.text(key))
        return path if path.is_absolute() else self.path.parent / path

    @property
    def parameters(self) -> dict[str, Any]:
        """For libpq. A server that has become mute is noticed, if not everywhere in time."""
        return {
            **database_parameters(self.settings),
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "qvd-doctor",
            "keepalives_idle": STATEMENT_SECONDS,
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s",
        }

    @property
    def server(self) -> str:
        """Where the database is, and for whom, in words."""
        text, number = self.settings.text, self.settings.number
        host = text("database.host") or "the local socket"
        return f"{text('database.name')} at {host}, port {number('database.port')}, as {text('database.user')}"

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """@raise DatabaseUnavailable: it cannot be reached, or refuses."""
        try:
            connection = psycopg2.connect(**self.parameters)
        except psycopg2.Error as error:
            raise DatabaseUnavailable(reason_of(error)) from None
        try:
            connection.set_session(readonly=True)
            with connection.cursor(cursor_factory=RealDictCursor) as cursor:
                yield Reader(cursor)
        except psycopg2.OperationalError as error:
            raise DatabaseUnavailable(reason_of(error)) from None
        finally:
            connection.close()


def who() -> str:
    """Who looks: the doctor sees what its user sees."""
    return "root" if os.geteuid() == 0 else f"the user with id {os.geteuid()}"
