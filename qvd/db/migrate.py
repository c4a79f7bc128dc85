# -*- test-case-name: tests.contract.test_db_migrate,tests.unit.test_db_migrate -*-
"""
Brings a database to the schema of this release: numbered SQL files, each applied once and never changed after.

Nodes of two releases share one schema while an installation is upgraded. So each file may say, in a line
C{-- compatible: N}, which release's nodes can still work once it is applied: those that know at least schema N.
Without such a line nothing changes for older nodes. All but L{check_compatible} is synchronous: for C{qvd-db}.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Traversable
from importlib.resources import files
from typing import Any

import psycopg2
import psycopg2.errors
from attrs import frozen
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from qvd.db.connection import reason_of
from qvd.interfaces import IDatabase
from qvd.model.errors import DatabaseUnavailable, QVDError

CONNECT_SECONDS = 10
ROLES = ("qvd_node", "qvd_api")
LOCK = 0x51564431
FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
COMPATIBLE = re.compile(r"^-- compatible: (\d+)\s*$", re.MULTILINE)
LEDGER = """
    CREATE TABLE schema_migrations (
        number      integer PRIMARY KEY,
        name        text NOT NULL,
        checksum    text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE versions (
        component   text PRIMARY KEY,
        version     integer NOT NULL
    );
    INSERT INTO versions (component, version) VALUES ('schema', 0), ('schema_compat', 0);
    GRANT SELECT ON schema_migrations, versions TO PUBLIC;
"""
MAKE_ROLE = """
    DO $$ BEGIN
        CREATE ROLE {role};
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
    END $$
"""


class SchemaError(QVDError):
    """The schema of the database and this release do not go together, or a migration failed."""

    code = "schema"


class AlreadyInitialized(SchemaError):
    """The database is not empty."""

    code = "already_initialized"


@frozen
class Migration:
    """One file.

    @ivar compatible: the least schema that a node must know to work after it; L{None}: as before.
    """

    number: int
    name: str
    sql: str
    checksum: str
    compatible: int | None

    @property
    def title(self) -> str:
        return f"{self.number:04}_{self.name}"


@frozen
class Status:
    """What was applied, and what is to be."""

    version: int
    compatible: int
    applied: tuple[str, ...]
    pending: tuple[Migration, ...]


def read_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """The files of C{folder} by number; of this release when there is none given.

    @raise SchemaError: a file has a wrong name, or two have one number.
    """
    found: dict[int, Migration] = {}
    for file in (files("qvd.db.schema") if folder is None else folder).iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = FILE_NAME.fullmatch(file.name)
        if match is None:
            raise SchemaError(f"{file.name} is not the name of a migration: it needs to look like 0001_initial.sql")
        number = int(match[1])
        if number in found:
            raise SchemaError(f"Two migrations have the number {number}: {file.name} and {found[number].title}.sql")
        content = file.read_bytes()
        sql = content.decode()
        compatible = COMPATIBLE.search(sql)
        checksum = hashlib.sha256(content).hexdigest()
        found[number] = Migration(number, match[2], sql, checksum, int(compatible[1]) if compatible else None)
    return tuple(found[number] for number in sorted(found))


def schema_version(folder: Traversable | None = None) -> int:
    """The schema that this release knows: the highest number of its files."""
    return max((migration.number for migration in read_migrations(folder)), default=0)


def pending(migrations: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> tuple[Migration, ...]:
    """Those to apply.

    @param applied: number, name and checksum of each that was.
    @raise SchemaError: what was applied and what is at hand contradict each other.
    """
    known = {migration.number: migration for migration in migrations}
    for number, name, checksum in applied:
        if number not in known:
            raise SchemaError(f"Migration {number:04}_{name} is unknown here: a newer release of QVD applied it")
        if known[number].checksum != checksum:
            raise SchemaError(f"The file of migration {known[number].title} was changed after it had been applied")
    done = {number for number, _, _ in applied}
    missing = tuple(migration for migration in migrations if migration.number not in done)
    if missing and done and missing[0].number < max(done):
        raise SchemaError(f"Migration {missing[0].title} was not applied, but later ones were")
    return missing


def status(dsn: str, folder: Traversable | None = None) -> Status:
    """@raise SchemaError: no QVD schema, or one that contradicts the files."""
    with connected(dsn) as connection, connection.cursor() as cursor:
        if not _has_ledger(cursor):
            raise SchemaError("The database holds no QVD schema: run qvd-db init")
        return _status(cursor, read_migrations(folder))


def apply_all(dsn: str, folder: Traversable | None = None) -> tuple[str, ...]:
    """Apply what is pending, each file in a transaction of its own; return their titles.

    @raise SchemaError: no QVD schema, one that contradicts the files, or a file fails; those before it stay.
    """
    migrations = read_migrations(folder)
    with connected(dsn) as connection, connection.cursor() as cursor:
        _lock(cursor)
        if not _has_ledger(cursor):
            raise SchemaError("The database holds no QVD schema: run qvd-db init")
        todo = _status(cursor, migrations).pending
        connection.commit()
        for migration in todo:
            _apply(cursor, migration)
            connection.commit()
        return tuple(migration.title for migration in todo)


def initialize(
    dsn: str,
    *,
    login_roles: bool = False,
    tenant: str | None = None,
    folder: Traversable | None = None,
    then: Callable[[Cursor], object] | None = None,
) -> tuple[str, ...]:
    """Fill an empty database, all or nothing: roles, schema, and a first tenant where one is named.

    @param login_roles: the roles may log in themselves; otherwise they are to be granted to some that may.
    @param then: writes what else belongs to the beginning.
    @raise AlreadyInitialized: the database is not empty.
    """
    migrations = read_migrations(folder)
    with connected(dsn) as connection, connection.cursor() as cursor:
        _lock(cursor)
        _refuse_unless_empty(cursor)
        for role in ROLES:
            cursor.execute(MAKE_ROLE.format(role=role))
            if login_roles:
                cursor.execute(f"ALTER ROLE {role} LOGIN")
        cursor.execute(LEDGER)
        for migration in migrations:
            _apply(cursor, migration)
        if tenant is not None:
            cursor.execute("INSERT INTO tenants (name) VALUES (%s)", (tenant,))
        if then is not None:
            then(cursor)
        connection.commit()
    return tuple(migration.title for migration in migrations)


async def check_compatible(db: IDatabase, known: int) -> None:
    """Whether this release can work on the database: a node asks before anything else.

    @param known: the schema that this release knows: L{schema_version} when the process began. Its files may be a newer
        release's by now.
    @raise SchemaError: it can not, and what to do.
    """
    try:
        rows = await db.fetch("SELECT component, version FROM versions")
    except psycopg2.errors.UndefinedTable:
        raise SchemaError("The database holds no QVD schema: run qvd-db init") from None
    versions = {row["component"]: row["version"] for row in rows}
    present, compatible = versions.get("schema", 0), versions.get("schema_compat", 0)
    if present < known:
        raise SchemaError(f"The database has schema {present}, this node needs {known}: run qvd-db migrate")
    if compatible > known:
        raise SchemaError(
            f"The database has schema {present}, which this node (schema {known}) is too old for:"
            f" upgrade QVD on this node; run qvd-db migrate from no older release than that of schema {compatible}"
        )


@contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    """A connection whose errors are sentences. What was not committed is undone."""
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_SECONDS, application_name="qvd-db")
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {reason_of(error)}") from None
    except psycopg2.ProgrammingError:
        # What libpq says of it may repeat a password.
        raise SchemaError("The connection string is not one that PostgreSQL understands") from None
    try:
        yield connection
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if connection.closed:
            raise DatabaseUnavailable(f"The database went away: {reason_of(error)}") from None
        raise SchemaError(f"The database refused: {reason_of(error)}") from None
    except psycopg2.Error as error:
        raise SchemaError(f"The database refused: {reason_of(error)}") from None
    finally:
        connection.close()


def _lock(cursor: Cursor) -> None:
    """One migration at a time; and none waits for ever behind a node at work."""
    cursor.execute("SET lock_timeout = '30s'")
    cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))


def _has_ledger(cursor: Cursor) -> bool:
    cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL AND to_regclass('versions') IS NOT NULL")
    return bool(_one(cursor)[0])


def _refuse_unless_empty(cursor: Cursor) -> None:
    if _has_ledger(cursor):
        raise AlreadyInitialized("The database is initialized already; qvd-db migrate brings it up to date")
    cursor.execute(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace"
    )
    if _one(cursor)[0]:
        raise AlreadyInitialized("The database holds tables that are not QVD's: give QVD one of its own")


def _status(cursor: Cursor, migrations: Sequence[Migration]) -> Status:
    cursor.execute("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    applied = cursor.fetchall()
    cursor.execute("SELECT component, version FROM versions")
    versions = dict(cursor.fetchall())
    return Status(
        version=versions["schema"],
        compatible=versions["schema_compat"],
        applied=tuple(f"{number:04}_{name}" for number, name, _ in applied),
        pending=pending(migrations, applied),
    )


def _apply(cursor: Cursor, migration: Migration) -> None:
    try:
        cursor.execute(migration.sql)
        cursor.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.checksum),
        )
        cursor.execute("UPDATE versions SET version = %s WHERE component = 'schema'", (migration.number,))
        if migration.compatible is not None:
            cursor.execute(
                "UPDATE versions SET version = %s WHERE component = 'schema_compat'", (migration.compatible,)
            )
    except psycopg2.Error as error:
        if cursor.connection.closed:
            raise
        raise SchemaError(f"Migration {migration.title} failed: {reason_of(error)}") from None


def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
