# -*- test-case-name: tests.admin.test_jobs -*-
"""Administrators whose jobs go on while they are not there."""

from __future__ import annotations

from attrs import frozen

from qvd.interfaces import IDatabase
from qvd.interfaces.administration import IAuthority
from qvd.interfaces.logins import ILoginPolicy
from qvd.model.declared import SUPERTENANT, Principal

ACCOUNT = """
    SELECT a.name, a.tenant_id, t.name AS tenant_name FROM administrators a JOIN tenants t ON t.id = a.tenant_id
    WHERE a.id = %s AND NOT a.blocked AND NOT t.blocked
"""


@frozen
class Absent:
    """L{qvd.admin.services.Principals} over PostgreSQL: asked anew for each piece of work."""

    db: IDatabase
    authority: IAuthority
    policy: ILoginPolicy

    async def now(self, administrator_id: int | None, at_most: frozenset[str]) -> Principal | None:
        row = None if administrator_id is None else await self.db.fetch_one(ACCOUNT, (administrator_id,))
        if row is None or administrator_id is None:
            return None
        multitenant = await self.policy.multitenant()
        if row["tenant_id"] == SUPERTENANT and not multitenant:
            return None
        return Principal(
            administrator_id=administrator_id,
            name=row["name"],
            tenant_id=row["tenant_id"],
            tenant_name=row["tenant_name"],
            superadmin=multitenant and row["tenant_id"] == SUPERTENANT,
            multitenant=multitenant,
            acls=await self.authority.acls(administrator_id) & at_most,
            session="job",
            by_token=True,
            fresh=True,
        )
