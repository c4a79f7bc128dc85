# -*- test-case-name: tests.contract.test_db_stores -*-
"""Administrators and what they look at."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.rows import VM_COLUMNS, VM_TABLES, vm_of
from qvd.interfaces import IAdministrators, IDatabase
from qvd.model.ids import TenantId
from qvd.model.records import VM, Administrator
from qvd.model.secret import Secret


@implementer(IAdministrators)
@frozen
class Administrators:
    """L{IAdministrators} over PostgreSQL."""

    db: IDatabase

    async def find(self, name: str) -> Administrator | None:
        login, _, tenant = name.partition("@")
        rows = await self.db.fetch(
            "SELECT a.tenant_id, a.name, a.password FROM administrators a JOIN tenants t ON t.id = a.tenant_id"
            " WHERE NOT t.blocked AND lower(a.name) = lower(%(name)s)"
            " AND (%(tenant)s = '' OR lower(t.name) = lower(%(tenant)s))",
            {"name": login, "tenant": tenant},
        )
        if len(rows) != 1:
            return None
        row = rows[0]
        return Administrator(TenantId(row["tenant_id"]), row["name"], Secret(row["password"]))

    async def vms(self, tenant_id: TenantId) -> Sequence[VM]:
        rows = await self.db.fetch(
            f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE v.tenant_id = %s ORDER BY v.id", (tenant_id,)
        )
        return [vm_of(row) for row in rows]
