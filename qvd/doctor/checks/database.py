# -*- test-case-name: tests.doctor.test_broken -*-
"""The database: reachable, of a fit version, with this release's schema, and the daemon's rights in it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from psycopg2.extensions import make_dsn

from qvd.db import migrate
from qvd.doctor.findings import Finding, failure, note, ok, warning
from qvd.doctor.place import Place, Reader
from qvd.model.errors import DatabaseUnavailable

OLDEST = 150000
"""C{ON DELETE SET NULL (column)}, which the schema has, came with PostgreSQL 15."""
NEARLY_FULL = 0.85
MENDS: Sequence[tuple[str, str]] = (
    ("could not translate host name", "correct database.host, or the name service of this machine"),
    ("No such file or directory", "start PostgreSQL there, or correct database.host (the folder of its socket)"),
    ("Connection refused", "start PostgreSQL (systemctl start postgresql), or correct database.host and database.port;"
     " it must listen on that address (listen_addresses)"),
    ("password authentication failed|no password supplied",
     "set database.password to that of the role (ALTER ROLE ... PASSWORD)"),
    ("role .* does not exist", "correct database.user, or make the roles with 'qvd-db init'"),
    ("role .* is not permitted to log in", "ALTER ROLE ... LOGIN, or 'qvd-db init --login' at set-up"),
    ("database .* does not exist", "correct database.name, or make it: createdb, then 'qvd-db init'"),
    ("no pg_hba.conf entry|Peer authentication|Ident authentication",
     "allow this machine and role in the server's pg_hba.conf, and reload it"),
    ("too many clients|remaining connection slots|too many connections",
     "raise max_connections of the server, or lower database.pool.size of the daemons"),
    ("starting up|shutting down|recovery mode", "wait until the server is up; its log says what it does"),
    ("timeout expired|timed out|statement timeout|Connection timed out",
     "the server takes connections and says nothing: look at its load and disks, and at firewalls on the way"),
    ("No route to host|Network is unreachable", "mend the network between this machine and the server"),
    ("SSL|certificate", "make the TLS settings of the server and of libpq (PGSSLMODE and its like) agree"),
)  # fmt: skip


def mend_of(reason: str) -> str:
    """What to do about what libpq says."""
    found = next((mend for pattern, mend in MENDS if re.search(pattern, reason)), None)
    return found or "see the log of PostgreSQL; the keys database.* of the settings say how it is reached"


def look_at_server(place: Place) -> Iterator[Finding]:
    """It answers, and is one that can be worked with. Sets L{Place.refusal}."""
    looked_at, begun = place.server, time.monotonic()
    place.refusal = "the database has not answered (database.reachable)"
    try:
        with place.reading() as reader:
            row = reader.one(
                "SELECT current_setting('server_version') AS version,"
                " current_setting('server_version_num')::int AS number,"
                " pg_is_in_recovery() AS standby, current_setting('server_encoding') AS encoding"
            )
    except DatabaseUnavailable as error:
        place.refusal = "the database cannot be reached (database.reachable)"
        yield failure(looked_at, f"The database cannot be reached: {error.text}", mend_of(error.text))
        return
    place.refusal = None
    yield ok(looked_at, f"PostgreSQL {row['version']} answers after {(time.monotonic() - begun) * 1000:.0f} ms")
    if row["number"] < OLDEST:
        yield failure(
            looked_at, f"PostgreSQL {row['version']} is too old", "upgrade the server to PostgreSQL 15 or newer"
        )
    if row["standby"]:
        yield failure(looked_at, "It is a standby, which takes no writes", "set database.host to the primary server")
    if row["encoding"] != "UTF8":
        yield failure(looked_at, f"Its encoding is {row['encoding']}", "make a database with ENCODING 'UTF8', and move")


def look_at_use(place: Place) -> Iterator[Finding]:
    """Whether it takes writes, keeps what it has confirmed, and has room for connections."""
    with place.reading() as reader:
        row = reader.one(
            "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,"
            " (SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only,"
            " current_setting('max_connections')::int AS most,"
            " (SELECT sum(numbackends) FROM pg_stat_database)::int AS used"
        )
    looked_at = place.server
    if row["read_only"] == "on":
        yield failure(
            looked_at,
            "It takes no writes (default_transaction_read_only)",
            f"ALTER ROLE {place.settings.text('database.user')} RESET default_transaction_read_only, or likewise of the"
            " database or in postgresql.conf",
        )
    lazy = [name for name, key in (("fsync", "fsync"), ("full_page_writes", "pages")) if row[key] == "off"]
    if lazy:
        yield warning(
            looked_at,
            f"It may be broken after a power failure: {' and '.join(lazy)} is off",
            f"set {' and '.join(lazy)} to on in postgresql.conf",
        )
    if row["used"] >= row["most"] * NEARLY_FULL:
        yield warning(
            looked_at,
            f"{row['used']} of its {row['most']} connections are in use",
            "raise max_connections, or lower database.pool.size of the daemons",
        )
    if not lazy and row["read_only"] != "on":
        yield ok(looked_at, f"it takes writes and keeps them; {row['used']} of {row['most']} connections are in use")


class Direct:
    """What L{migrate.check_compatible} needs of a database, at once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def fetch(self, sql: str, parameters: Any = ()) -> Sequence[Mapping[str, Any]]:
        return self._reader.rows(sql, parameters or None)


def look_at_schema(place: Place) -> Iterator[Finding]:
    """It is one that this release can work with, and whole."""
    looked_at, known = place.server, migrate.schema_version()
    try:
        with place.reading() as reader:
            asking = migrate.check_compatible(Direct(reader), known)  # type: ignore[arg-type]  # only fetch is used
            try:
                asking.send(None)
            except StopIteration:
                pass
        found = migrate.status(make_dsn(**place.parameters))
    except migrate.SchemaError as error:
        yield failure(looked_at, error.text.replace("this node", place.daemon), mend_of_schema(error.text))
        return
    if found.version > known:
        yield note(
            looked_at,
            f"It has schema {found.version}, newer than this release's {known}, which can work with it",
            "upgrade QVD on this machine when the others have been",
        )
        return
    yield ok(looked_at, f"schema {found.version}, that of this release")


def mend_of_schema(text: str) -> str:
    if "qvd-db init" in text:
        return "qvd-db init, as the owner of the database; or correct database.name"
    if "too old" in text or "newer release" in text:
        return "upgrade QVD on this machine to the release that the database was migrated by"
    if "changed after" in text or "later ones were" in text:
        return "install the unchanged files of a release; if the database was edited by hand, restore it from a backup"
    return "qvd-db migrate, as the owner of the database"


GRANT = re.compile(r"^GRANT\s+([^;]+?)\s+ON\s+(?:TABLE\s+)?(?!FUNCTION)([^;]+?)\s+TO\s+([^;]+?);", re.M | re.S)
PRIVILEGE = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)(?:\s*\(([^)]*)\))?")


@cache
def grants() -> Mapping[tuple[str, str, str], frozenset[str]]:
    """What the migrations give: columns by role, table and privilege; none: the whole table."""
    given: dict[tuple[str, str, str], set[str]] = {}
    for migration in migrate.read_migrations():
        for privileges, tables, roles in GRANT.findall(migration.sql):
            if tables.startswith(("FUNCTION", "SEQUENCE", "SCHEMA")):
                continue
            for role in re.split(r"\s*,\s*", roles.strip()):
                for table in re.split(r"\s*,\s*", tables.strip()):
                    for privilege, columns in PRIVILEGE.findall(privileges):
                        names = set(re.split(r"\s*,\s*", columns.strip())) if columns else {""}
                        given.setdefault((role, table, privilege), set()).update(names)
    return {key: frozenset({""} if "" in names else names) for key, names in given.items()}


FUNCTION = re.compile(r"^GRANT\s+EXECUTE\s+ON\s+FUNCTION\s+(\w+\s*\([^)]*\))\s+TO\s+([^;]+?);", re.M)


@cache
def functions(role: str) -> Sequence[str]:
    """What the migrations let a role call."""
    given = [found for migration in migrate.read_migrations() for found in FUNCTION.findall(migration.sql)]
    return [function for function, roles in given if role in re.split(r"\s*,\s*", roles.strip())]


UNCALLED = """
    SELECT name FROM unnest(%s::text[]) AS wanted (name)
    WHERE to_regprocedure(name) IS NOT NULL AND NOT has_function_privilege(to_regprocedure(name), 'EXECUTE')
"""
LACKING = """
    SELECT table_name, privilege, column_name
    FROM unnest(%(tables)s::text[], %(privileges)s::text[], %(columns)s::text[])
        AS wanted (table_name, privilege, column_name)
    WHERE to_regclass(table_name) IS NOT NULL AND NOT coalesce(CASE WHEN column_name = ''
        THEN has_table_privilege(to_regclass(table_name), privilege)
        ELSE (SELECT has_column_privilege(attrelid, attnum, privilege) FROM pg_attribute
            WHERE attrelid = to_regclass(table_name) AND attname = column_name AND NOT attisdropped) END, true)
    ORDER BY 1, 2, 3
"""
TOO_MANY = """
    SELECT rolsuper AS super, (SELECT count(*) FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND pg_has_role(current_user, o.oid, 'USAGE'))
        AS owned FROM pg_roles WHERE rolname = current_user
"""
DAEMON_ROLES = {"qvd-node": "qvd_node", "qvd-admin": "qvd_api"}


def look_at_rights(place: Place) -> Iterator[Finding]:
    """The role may do what the migrations give it, and no more than that matters."""
    role, user = DAEMON_ROLES[place.daemon], place.settings.text("database.user")
    wanted = [
        (table, privilege, column)
        for (of, table, privilege), columns in sorted(grants().items())
        if of == role
        for column in sorted(columns)
    ]
    tables, privileges, columns = zip(*wanted, strict=True)
    with place.reading() as reader:
        lacking = reader.rows(
            LACKING, {"tables": list(tables), "privileges": list(privileges), "columns": list(columns)}
        )
        uncalled = reader.rows(UNCALLED, (list(functions(role)),))
        too_many = reader.one(TOO_MANY)
    looked_at = f"the role {user} in {place.settings.text('database.name')}"
    if lacking:
        first = lacking[0]
        column = f" ({first['column_name']})" if first["column_name"] else ""
        grant = f"GRANT {first['privilege']}{column} ON {first['table_name']} TO {role};"
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        cure = f"as the owner of the schema: {grant}{' and the others likewise' if more else ''}"
        if user != role:
            cure += f" And have {user} be {role}: GRANT {role} TO {user}; or set database.user to {role}"
        yield failure(looked_at, f"It may not {first['privilege']} on {first['table_name']}{column}{more}", cure)
    for each in uncalled:
        cure = f"as the owner of the schema: GRANT EXECUTE ON FUNCTION {each['name']} TO {role};"
        yield failure(looked_at, f"It may not call {each['name']}", cure)
    if too_many["super"] or too_many["owned"]:
        what = "is a superuser" if too_many["super"] else "owns the tables"
        yield warning(
            looked_at,
            f"It {what}: whoever has its password can rewrite history and schema",
            f"set database.user to {role}, and keep the owner for qvd-db",
        )
    if not lacking and not uncalled and not (too_many["super"] or too_many["owned"]):
        yield ok(looked_at, f"it may do what {role} must, and owns nothing")


SLIGHT, GRAVE = 2.0, 30.0
"""Seconds: one-time codes are good for half a minute."""


def look_at_clock(place: Place) -> Iterator[Finding]:
    """This machine's clock against the database's, which is that of the installation."""
    with place.reading() as reader:
        before = time.time()  # noqa: TID251  the clock itself is what is looked at
        row = reader.one("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
        after = time.time()  # noqa: TID251
    ahead = (before + after) / 2 - float(row["now"])
    looked_at = f"this machine's clock against that of {place.server}"
    off = f"This machine's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database's"
    mend = "set both by NTP (timedatectl set-ntp true; chronyc tracking, timedatectl timesync-status show how far off)"
    if abs(ahead) > GRAVE:
        yield failure(looked_at, f"{off}: one-time codes and certificates fail, and logs do not agree", mend)
    elif abs(ahead) > SLIGHT:
        yield warning(looked_at, f"{off}: logs of the two do not agree", mend)
    else:
        yield ok(looked_at, f"they differ by {abs(ahead):.3f} s")
