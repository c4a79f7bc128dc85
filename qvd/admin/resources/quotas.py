# -*- test-case-name: tests.admin.test_quotas -*-
"""How much a tenant may have, and has. The database sees to it: L{qvd.db.quotas}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.interfaces import IDatabase, ITransaction

Bound = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None
KINDS = ("users", "vms", "running_vms")
READ = "SELECT users, vms, running_vms FROM tenant_quotas WHERE tenant_id = %s"


class TenantQuotas(msgspec.Struct, forbid_unknown_fields=True):
    """At most so many; null: as many as there is room for. What is there already stays, however many."""

    users: Bound = None
    vms: Bound = None
    running_vms: Bound = None


class TenantUsage(msgspec.Struct, forbid_unknown_fields=True):
    """How many there are. C{running_vms}: those that have a node."""

    users: int
    vms: int
    running_vms: int


class Quotas:
    """The operations on them."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        """@param peers: all collections; tenants are looked up among them."""
        self.peers = peers

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        seeing: dict[str, Any] = {"method": "GET", "need": acl("tenant.see.quotas", superadmin=True), "tag": "tenants"}
        return [
            Endpoint(
                path="/tenants/{id}/quotas",
                action="tenant.quotas",
                handler=self.read,
                summary="Tenants: how much one may have",
                answers={200: TenantQuotas},
                **seeing,
            ),
            Endpoint(
                path="/tenants/{id}/usage",
                action="tenant.usage",
                handler=self.usage,
                summary="Tenants: how much one has of what there are quotas for",
                answers={200: TenantUsage},
                **seeing,
            ),
            Endpoint(
                method="PUT",
                path="/tenants/{id}/quotas",
                action="tenant.set-quotas",
                need=acl("tenant.update.quotas", superadmin=True),
                handler=self.put,
                summary="Tenants: say how much one may have",
                body=TenantQuotas,
                answers={200: TenantQuotas},
                tag="tenants",
            ),
        ]

    async def read(self, call: Call) -> Answer:
        await self.peers["tenants"].find(call, call.number())
        return Answer(200, await quotas_of(call.services.database, call.number()))

    async def usage(self, call: Call) -> Answer:
        await self.peers["tenants"].find(call, call.number())
        row = await call.services.database.fetch_one(
            "SELECT (SELECT count(*) FROM users WHERE tenant_id = %(tenant)s) AS users,"
            " (SELECT count(*) FROM vms WHERE tenant_id = %(tenant)s) AS vms,"
            " (SELECT count(*) FROM vm_runtimes WHERE tenant_id = %(tenant)s AND host_id IS NOT NULL) AS running_vms",
            {"tenant": call.number()},
        )
        return Answer(200, TenantUsage(**row))

    async def put(self, call: Call) -> Answer:
        tenants, wanted = self.peers["tenants"], call.body

        async def work(tx: ITransaction) -> Answer:
            current = await tenants.locked(call, tx)
            before = await quotas_of(tx, current["id"])
            await tx.execute(
                "INSERT INTO tenant_quotas (tenant_id, users, vms, running_vms) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (tenant_id) DO UPDATE SET users = excluded.users, vms = excluded.vms,"
                " running_vms = excluded.running_vms",
                (current["id"], *(getattr(wanted, kind) for kind in KINDS)),
            )
            call.subject = tenants.subject(
                {**current, "quotas": msgspec.to_builtins(before)}, {**current, "quotas": msgspec.to_builtins(wanted)}
            )
            return Answer(200, wanted)

        return await tenants.changing(call, work)


async def quotas_of(reads: ITransaction | IDatabase, tenant_id: int) -> TenantQuotas:
    row = await reads.fetch_one(READ, (tenant_id,))
    return TenantQuotas() if row is None else TenantQuotas(**row)
