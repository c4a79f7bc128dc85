# -*- test-case-name: tests.contract.test_db_roles -*-
"""
For when nobody can administer any more: makes the roles that come with the product anew, and gives somebody Root for a
while. On the database's own machine, by whoever owns the schema; in the audit trail like every change. Synchronous.
"""

from __future__ import annotations

import json

from attrs import frozen
from psycopg2.extensions import cursor as Cursor

from qvd.db.migrate import connected
from qvd.db.shipped import seed_sql
from qvd.model.declared import COMMON
from qvd.model.errors import InvalidRequest, NotFound
from qvd.model.shipped_roles import ALL, ROOT

MAX_HOURS = 24 * 30
IDS = [each.role_id for each in ALL]


@frozen
class Repaired:
    """@ivar administrator: full name of who has Root now; empty: nobody was named."""

    roles: int
    administrator: str


def repair(dsn: str, name: str, hours: float, cause: str) -> Repaired:
    """Make the shipped roles as they were shipped, and give an administrator Root.

    @param name: of an administrator over all tenants, or C{name@tenant}; empty: nobody gets it.
    @param hours: for so long; 0: for good.
    @param cause: who does it, for the audit trail.
    @raise NotFound: there is no such administrator.
    @raise InvalidRequest: not a time that it can be given for.
    """
    if not 0 <= hours <= MAX_HOURS:
        raise InvalidRequest(f"Root is given for up to {MAX_HOURS} hours, or for good with 0")
    with connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT roles_lock()")
        restore(cursor)
        who = give_root(cursor, name, hours) if name else ""
        record(cursor, who, hours, cause)
        connection.commit()
    return Repaired(len(ALL), who)


def restore(cursor: Cursor) -> None:
    """The shipped roles, whatever has become of them. Other common roles of their names are called otherwise."""
    cursor.execute("DELETE FROM role_acls WHERE role_id = ANY(%s)", (IDS,))
    cursor.execute("DELETE FROM role_parents WHERE role_id = ANY(%s)", (IDS,))
    cursor.execute("UPDATE roles SET name = 'being repaired ' || id WHERE id = ANY(%s)", (IDS,))
    cursor.execute(
        "UPDATE roles SET name = name || ' (' || id || ')' WHERE tenant_id = %s AND lower(name) = ANY(%s)",
        (COMMON, [each.name.lower() for each in ALL]),
    )
    # None of them inherits what does not come with the product, so a circle can only be closed by their own parents.
    cursor.execute(seed_sql())


def give_root(cursor: Cursor, name: str, hours: float) -> str:
    """Let an administrator do everything in reach, unblocked; return the full name."""
    login, _, tenant = name.partition("@")
    cursor.execute(
        "SELECT a.id, a.name || '@' || t.name FROM administrators a JOIN tenants t ON t.id = a.tenant_id"
        " WHERE lower(a.name) = lower(%(login)s)"
        " AND CASE WHEN %(tenant)s = '' THEN t.id = 0 ELSE lower(t.name) = lower(%(tenant)s) END",
        {"login": login, "tenant": tenant},
    )
    found = cursor.fetchone()
    if found is None:
        raise NotFound(f"There is no administrator {name}: make one with qvd-db admin-secret")
    administrator_id, full_name = found
    cursor.execute("UPDATE administrators SET blocked = false WHERE id = %s", (administrator_id,))
    assign_root(cursor, administrator_id, hours)
    return str(full_name)


def assign_root(cursor: Cursor, administrator_id: int, hours: float = 0) -> None:
    """Let an administrator do everything.

    @param hours: as of L{assign}.
    """
    assign(cursor, administrator_id, ROOT, hours)


def assign(cursor: Cursor, administrator_id: int, role: int, hours: float = 0) -> None:
    """Give an administrator a role that all tenants share.

    @param hours: for so long; 0: for good. A time never shortens what was given for good."""
    cursor.execute(
        "INSERT INTO administrator_roles AS held (administrator_id, tenant_id, role_id, role_tenant_id, expires_at)"
        " SELECT id, tenant_id, %(role)s, %(common)s, now() + nullif(%(hours)s, 0) * interval '1 hour'"
        " FROM administrators WHERE id = %(id)s ON CONFLICT (administrator_id, role_id) DO UPDATE SET expires_at ="
        " CASE WHEN held.expires_at IS NOT NULL THEN excluded.expires_at END",
        {"role": role, "common": COMMON, "hours": hours, "id": administrator_id},
    )


def record(cursor: Cursor, who: str, hours: float, cause: str) -> None:
    entry = {
        "action": "role.repair",
        "outcome": "done",
        "kind": "role",
        "administrator_name": cause,
        "object_name": who,
        "request_id": "qvd-db",
        "client_address": "",
        "arguments": {"administrator": who, "hours": hours},
        "after": {"roles": len(ALL)},
        "status": 200,
    }
    cursor.execute("SELECT audit_append(%s::jsonb)", (json.dumps(entry),))
