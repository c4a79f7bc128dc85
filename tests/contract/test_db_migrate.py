"""L{qvd.db.migrate} and C{qvd-db} on a real server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from psycopg2.extensions import parse_dsn
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from qvd.db import cli, migrate
from qvd.db.migrate import AlreadyInitialized, SchemaError, check_compatible
from qvd.db.pool import Pool
from qvd.model.errors import DatabaseUnavailable
from tests.fakes.asynchronous import until
from tests.fakes.postgres import RealPostgres

FIRST = "-- compatible: 1\nCREATE TABLE tenants (id serial, name text); -- 100 % plain SQL\n"
SECOND = "ALTER TABLE tenants ADD blocked boolean; CREATE TABLE things (id integer);\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder of migrations; returns it."""

    def write(**files: str) -> Path:
        for name, sql in files.items():
            (tmp_path / f"{name.removeprefix('m')}.sql").write_text(sql)
        return tmp_path

    return write


def ask(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def versions(dsn: str) -> dict[str, int]:
    return dict(ask(dsn, "SELECT component, version FROM versions"))


def test_twice(empty_database: str, write: Write) -> None:
    folder = write(m0001_initial=FIRST)
    assert migrate.initialize(empty_database, folder=folder, tenant="first") == ("0001_initial",)
    assert ask(empty_database, "SELECT name FROM tenants WHERE id > 0") == [("first",)]
    assert migrate.apply_all(empty_database, folder) == ()
    write(m0002_things=SECOND)
    found = migrate.status(empty_database, folder)
    assert (found.version, found.compatible, found.applied) == (1, 1, ("0001_initial",))
    assert [migration.title for migration in found.pending] == ["0002_things"]
    assert migrate.apply_all(empty_database, folder) == ("0002_things",)
    assert migrate.apply_all(empty_database, folder) == ()
    assert ask(empty_database, "SELECT * FROM things") == []
    assert versions(empty_database) == {"schema": 2, "schema_compat": 1}
    with pytest.raises(AlreadyInitialized, match="initialized already"):
        migrate.initialize(empty_database, folder=folder)


def test_changed_file(empty_database: str, write: Write) -> None:
    folder = write(m0001_initial=FIRST)
    migrate.initialize(empty_database, folder=folder)
    write(m0001_initial=FIRST + "-- \n", m0002_things=SECOND)
    for call in (migrate.apply_all, migrate.status):
        with pytest.raises(SchemaError, match="0001_initial was changed"):
            call(empty_database, folder)
    assert ask(empty_database, "SELECT to_regclass('things')") == [(None,)]


def test_failing_file(empty_database: str, write: Write) -> None:
    """Files before it stay applied, nothing of it does."""
    folder = write(m0001_initial=FIRST)
    migrate.initialize(empty_database, folder=folder)
    write(m0002_things=SECOND, m0003_bad="CREATE TABLE more (id integer); SELECT * FROM nowhere;")
    with pytest.raises(SchemaError, match='0003_bad failed: relation "nowhere"'):
        migrate.apply_all(empty_database, folder)
    assert ask(empty_database, "SELECT to_regclass('things') IS NULL, to_regclass('more') IS NULL") == [(False, True)]
    assert versions(empty_database)["schema"] == 2


def test_failing_initialization_leaves_nothing(empty_database: str, write: Write) -> None:
    folder = write(m0001_initial=FIRST, m0002_bad="SELECT * FROM nowhere")
    with pytest.raises(SchemaError, match="0002_bad"):
        migrate.initialize(empty_database, folder=folder)
    assert ask(empty_database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    write(m0002_bad="SELECT 1")
    assert len(migrate.initialize(empty_database, folder=folder)) == 2


def test_foreign_tables(empty_database: str, write: Write) -> None:
    ask(empty_database, "CREATE TABLE somebody_elses (id integer)")
    with pytest.raises(AlreadyInitialized, match="not QVD's"):
        migrate.initialize(empty_database, folder=write(m0001_initial=FIRST))
    for call in (migrate.apply_all, migrate.status):
        with pytest.raises(SchemaError, match="run qvd-db init"):
            call(empty_database)


@pytest_twisted.ensureDeferred
async def test_one_at_a_time(empty_database: str, write: Write) -> None:
    folder = write(m0001_initial=FIRST)
    migrate.initialize(empty_database, folder=folder)
    write(m0002_slow="SELECT pg_sleep(0.3); CREATE TABLE things (id integer);")
    first = deferToThread(migrate.apply_all, empty_database, folder)
    locked = (
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
    )
    await until(lambda: ask(empty_database, locked))
    second = deferToThread(migrate.apply_all, empty_database, folder)
    assert sorted([await first, await second]) == [(), ("0002_slow",)]


def test_roles(empty_database: str, write: Write) -> None:
    migrate.initialize(empty_database, folder=write(m0001_initial=FIRST), login_roles=True)
    roles = ask(empty_database, "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'qvd%' ORDER BY 1")
    assert roles == [("qvd_api", True), ("qvd_node", True)]


def test_unreachable(empty_database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        migrate.status(psycopg2.extensions.make_dsn(empty_database, port=1))


@pytest_twisted.ensureDeferred
async def test_compatible(empty_database: str, write: Write) -> None:
    pool = Pool(reactor, empty_database, 1, 10.0, random.Random(1))
    await pool.start()
    try:
        with pytest.raises(SchemaError, match="run qvd-db init"):
            await check_compatible(pool, migrate.schema_version())
        folder = write(m0001_initial=FIRST, m0002_things=SECOND)
        migrate.initialize(empty_database, folder=folder)
        for known in (1, 2):
            await check_compatible(pool, known)
        with pytest.raises(SchemaError, match=r"has schema 2, this node needs 3: run qvd-db migrate"):
            await check_compatible(pool, 3)
        write(m0003_contract="-- compatible: 2\nALTER TABLE tenants DROP blocked;")
        migrate.apply_all(empty_database, folder)
        await check_compatible(pool, 2)
        with pytest.raises(SchemaError, match="too old"):
            await check_compatible(pool, 1)
    finally:
        await pool.stop()


@pytest_twisted.ensureDeferred
async def test_the_schema_of_this_release(database: str, postgres: RealPostgres) -> None:
    """As the node's own role."""
    assert migrate.status(database).pending == ()
    pool = Pool(reactor, postgres.as_role(database, "qvd_node"), 1, 10.0, random.Random(1))
    await pool.start()
    try:
        await check_compatible(pool, migrate.schema_version())
    finally:
        await pool.stop()


def test_commands(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--dsn", empty_database]
    assert cli.main(["status", *where]) == 1
    assert "run qvd-db init" in capsys.readouterr().err
    assert cli.main(["init", *where]) == 0
    assert "first tenant is called default" in capsys.readouterr().out
    assert ask(empty_database, "SELECT name FROM tenants WHERE id > 0") == [("default",)]
    assert cli.main(["init", *where]) == 1
    assert "initialized already" in capsys.readouterr().err
    assert cli.main(["migrate", *where]) == 0
    assert "up to date" in capsys.readouterr().out
    assert cli.main(["status", *where]) == 0
    assert "applied  0001_initial" in capsys.readouterr().out
    assert cli.main(["status", "--json", *where]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["pending"] == []
    assert document["schema"] == migrate.schema_version()
    ask(empty_database, "DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)")
    assert cli.main(["status", "--json", *where]) == 1
    assert len(json.loads(capsys.readouterr().out)["pending"]) == 1


def test_command_with_a_configuration_file(
    empty_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gives the place; the role is ours, not the node's."""
    place = parse_dsn(empty_database)
    config = tmp_path / "node.conf"
    config.write_text(
        f'nodename = "n"\ndatabase.host = "{place["host"]}"\ndatabase.port = {place["port"]}\n'
        f'database.name = "{place["dbname"]}"\ndatabase.user = "nobody_at_all"\n'
        'l7r.tls.cert = "c"\nl7r.tls.key = "k"\n'
    )
    assert cli.main(["init", "--config", str(config), "--user", "postgres"]) == 0
    assert "ready" in capsys.readouterr().out
    assert cli.main(["status", "--config", str(config), "--user", "nobody_at_all"]) == 3


def test_command_without_a_server(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    dsn = psycopg2.extensions.make_dsn(empty_database, port=1, password="tr0ub4dor")
    assert cli.main(["migrate", "--dsn", dsn]) == 3
    shown = capsys.readouterr()
    assert "cannot be reached" in shown.err
    assert "tr0ub4dor" not in shown.out + shown.err
