# -*- test-case-name: tests.contract.test_db_roles -*-
"""Roles, who holds them, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.interfaces.administration import IAuthority
from qvd.interfaces.roles import IRoles
from qvd.model.acls import operative
from qvd.model.declared import SUPERTENANT
from qvd.model.roles import Graph, Role, effective

HELD = "administrator_id = %(id)s AND (expires_at IS NULL OR expires_at > now())"
ABOVE = """
    WITH RECURSIVE above (id) AS (
        {roots} UNION SELECT p.parent_id FROM role_parents p JOIN above ON p.role_id = above.id
    )
    SELECT r.id,
        coalesce((SELECT array_agg(acl) FROM role_acls a WHERE a.role_id = r.id AND positive), '{{}}') AS positives,
        coalesce((SELECT array_agg(acl) FROM role_acls a WHERE a.role_id = r.id AND NOT positive), '{{}}') AS negatives,
        coalesce((SELECT array_agg(parent_id) FROM role_parents p WHERE p.role_id = r.id), '{{}}') AS parents
        {more}
    FROM above r
"""
OF_ROLES = ABOVE.format(roots="SELECT unnest(%(ids)s::integer[])", more="")
OF_ADMINISTRATOR = ABOVE.format(
    roots=f"SELECT role_id FROM administrator_roles WHERE {HELD}",
    more=f", EXISTS (SELECT FROM administrator_roles WHERE role_id = r.id AND {HELD}) AS held,"
    " (SELECT tenant_id FROM administrators WHERE id = %(id)s) AS tenant_id, (SELECT multitenant()) AS multitenant",
)


def graph_of(rows: Iterable[Row]) -> Graph:
    """Roles of rows of L{ABOVE}."""
    return {
        row["id"]: Role(row["id"], frozenset(row["positives"]), frozenset(row["negatives"]), frozenset(row["parents"]))
        for row in rows
    }


@implementer(IAuthority)
@frozen
class Authority:
    """L{IAuthority} over PostgreSQL: one statement for each question, and nothing kept, so that what is taken from
    somebody is gone with their next request."""

    db: IDatabase

    async def acls(self, administrator_id: int) -> frozenset[str]:
        rows = await self.db.fetch(OF_ADMINISTRATOR, {"id": administrator_id})
        if not rows:
            return frozenset()
        names = effective(graph_of(rows), [row["id"] for row in rows if row["held"]])
        return operative(names, rows[0]["tenant_id"] == SUPERTENANT and rows[0]["multitenant"])

    async def multitenant(self) -> bool:
        row = await self.db.fetch_one("SELECT multitenant() AS multitenant")
        return row is None or bool(row["multitenant"])


@implementer(IRoles)
@frozen
class Roles:
    """L{IRoles} over PostgreSQL."""

    db: IDatabase

    async def lock(self, tx: ITransaction) -> None:
        await tx.execute("SELECT roles_lock()")

    async def graph(self, role_ids: Iterable[int], tx: ITransaction | None = None) -> Graph:
        return graph_of(await (tx or self.db).fetch(OF_ROLES, {"ids": list(role_ids)}))

    async def names(self, role_ids: Iterable[int]) -> Mapping[int, str]:
        rows = await self.db.fetch("SELECT id, name FROM roles WHERE id = ANY(%s)", (list(role_ids),))
        return {row["id"]: row["name"] for row in rows}

    async def held(self, administrator_id: int, tx: ITransaction | None = None) -> Sequence[int]:
        rows = await (tx or self.db).fetch(
            f"SELECT role_id FROM administrator_roles WHERE {HELD} ORDER BY role_id", {"id": administrator_id}
        )
        return [row["role_id"] for row in rows]

    async def write(self, before: Role, after: Role, tenant_id: int, tx: ITransaction) -> None:
        gone = (before.positives | before.negatives) - (after.positives | after.negatives)
        if gone:
            await tx.execute(
                "DELETE FROM role_acls WHERE role_id = %s AND acl = ANY(%s)", (before.role_id, sorted(gone))
            )
        for positive, new in (
            (True, after.positives - before.positives),
            (False, after.negatives - before.negatives),
        ):
            if new:
                await tx.execute(
                    "INSERT INTO role_acls (role_id, acl, positive) SELECT %s, unnest(%s::text[]), %s"
                    " ON CONFLICT (role_id, acl) DO UPDATE SET positive = excluded.positive",
                    (before.role_id, sorted(new), positive),
                )
        await self._write_parents(before, after, tenant_id, tx)

    async def _write_parents(self, before: Role, after: Role, tenant_id: int, tx: ITransaction) -> None:
        left, new = before.parents - after.parents, after.parents - before.parents
        if left:
            await tx.execute(
                "DELETE FROM role_parents WHERE role_id = %s AND parent_id = ANY(%s)", (before.role_id, sorted(left))
            )
        if new:
            await tx.execute(
                "INSERT INTO role_parents (role_id, tenant_id, parent_id, parent_tenant_id)"
                " SELECT %s, %s, id, tenant_id FROM roles WHERE id = ANY(%s)",
                (before.role_id, tenant_id, sorted(new)),
            )

    async def assign(self, administrator_id: int, role_id: int, tx: ITransaction) -> None:
        await tx.execute(
            "INSERT INTO administrator_roles (administrator_id, tenant_id, role_id, role_tenant_id)"
            " SELECT a.id, a.tenant_id, r.id, r.tenant_id FROM administrators a, roles r WHERE a.id = %s AND r.id = %s"
            " ON CONFLICT (administrator_id, role_id) DO UPDATE SET expires_at = NULL",
            (administrator_id, role_id),
        )

    async def withdraw(self, administrator_id: int, role_id: int, tx: ITransaction) -> None:
        await tx.execute(
            "DELETE FROM administrator_roles WHERE administrator_id = %s AND role_id = %s", (administrator_id, role_id)
        )
