# -*- test-case-name: tests.contract.test_db_onetime -*-
"""
One-time secrets of administrators: that of the first one, and those that let somebody in again.

Whoever owns the schema makes them, at the machine. The first login with one must replace it.
"""

from __future__ import annotations

import secrets
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from qvd.db.changes import as_json
from qvd.db.migrate import connected
from qvd.db.repair import assign_root
from qvd.interfaces.administration import AuditEntry
from qvd.model.declared import SUPERTENANT
from qvd.model.errors import InvalidRequest, NotFound
from qvd.model.secret import Secret

FIRST = "admin"
MOST_HOURS = 24 * 30
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""None that is mistaken for another."""


def new_secret() -> Secret:
    """120 random bits, in groups that can be typed."""
    return Secret("-".join("".join(secrets.choice(LETTERS) for _ in range(6)) for _ in range(4)))


def make_first(cursor: Cursor, password_hash: str, hours: float, by: str) -> int:
    """The first administrator, over all tenants.

    @param by: who does it, for the audit trail.
    """
    cursor.execute(
        "INSERT INTO administrators (tenant_id, name, password, must_change_password, password_expires_at, created_by)"
        " VALUES (%s, %s, %s, true, now() + make_interval(secs => %s), %s) RETURNING id",
        (SUPERTENANT, FIRST, password_hash, hours * 3600, by),
    )
    row = cursor.fetchone()
    assert row is not None
    made = int(row[0])
    assign_root(cursor, made)
    tell(cursor, "administrator.create", (made, FIRST, SUPERTENANT), {}, by)
    return made


def reset(dsn: str, who: str, password_hash: str, hours: float, without_code: bool, by: str) -> str:
    """Give an administrator a one-time secret, and say who it is. Blocks, sessions and tokens of the account end.

    @param who: C{NAME} of one over all tenants, or C{NAME@TENANT}.
    @param without_code: the second factor ends as well.
    @raise NotFound: there is none of that name.
    @raise InvalidRequest: not a time that a secret may be good for.
    """
    if not 0 < hours <= MOST_HOURS:
        raise InvalidRequest(f"A secret is good for up to {MOST_HOURS} hours, not for {hours:g}")
    name, _, tenant = who.partition("@")
    connection: Connection
    with connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE administrators a SET password = %s, must_change_password = true, blocked = false,"
            " password_expires_at = now() + make_interval(secs => %s) FROM tenants t WHERE t.id = a.tenant_id"
            " AND lower(a.name) = lower(btrim(%s)) AND lower(t.name) = lower(btrim(%s)) RETURNING a.id, a.name,"
            " a.tenant_id, t.name",
            (password_hash, hours * 3600, name, tenant or "*"),
        )
        row = cursor.fetchone()
        if row is None:
            raise NotFound(f"There is no administrator {name!r} {f'of the tenant {tenant}' if tenant else 'over all'}")
        cursor.execute("DELETE FROM administrator_tokens WHERE administrator_id = %s", (row[0],))
        if without_code:
            cursor.execute("DELETE FROM administrator_totp WHERE administrator_id = %s", (row[0],))
        told = {"hours": hours, "without_code": without_code}
        tell(cursor, "administrator.one-time-secret", (row[0], row[1], row[2]), told, by)
        connection.commit()
    return f"{row[1]}@{row[3]}"


def tell(cursor: Cursor, action: str, whom: tuple[int, str, int], arguments: dict[str, Any], by: str) -> None:
    """Write it into the audit trail."""
    entry = AuditEntry(
        action=action,
        outcome="done",
        request_id="qvd-db",
        client_address="",
        administrator_name=by,
        kind="administrator",
        object_id=whom[0],
        object_name=whom[1],
        object_tenant_id=whom[2],
        arguments=arguments,
    )
    cursor.execute("SELECT audit_append(%s::jsonb)", (as_json(entry),))
