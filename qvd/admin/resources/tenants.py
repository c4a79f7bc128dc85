# -*- test-case-name: tests.admin.test_purge,tests.admin.test_isolation -*-
"""Tenants: organisations that know nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.jobs.kinds import ACCEPTED, ask_for
from qvd.admin.jobs.purge import PURGE, Part, contents, parts
from qvd.admin.problems import Problem
from qvd.admin.resources.common import blocked_field, description_field, id_field, language_field
from qvd.admin.resources.vmlists import lists_of_tenants
from qvd.interfaces import ITransaction
from qvd.model.declared import SUPERTENANT, Creates, Field, Kind, Principal, Resource, Values

TENANTS = Resource(
    name="tenant",
    collection="tenants",
    title="Tenants",
    table="tenants",
    alias="t",
    # The common one owns what all share; nobody belongs to it.
    source="(SELECT * FROM tenants WHERE id >= 0) t",
    keys={"tenants": "id"},
    tenant="t.id",
    tenant_column="",
    read=("tenant.see-main.",),
    create_acl="tenant.create.",
    delete_acl="tenant.delete.",
    superadmin=True,
    superadmin_reads=True,
    if_match=True,
    fields=(
        id_field("t"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="What its users and administrators type after their own names",
            sql="t.name",
            column="tenants.name",
            creates=Creates.MUST,
            update_acl="tenant.update.name",
            least=1,
            most=80,
            pattern=r"^[^\s@#*\x00-\x1f-][^\s\x00-\x1f@#]*$",
        ),
        description_field("tenant", "tenants", "t"),
        language_field("tenant", "tenants", "t", "Of its panel"),
        Field(
            name="page_size",
            kind=Kind.INTEGER,
            text="Objects of a page, where nothing else is said",
            sql="t.page_size",
            column="tenants.page_size",
            see=("tenant.see.blocksize",),
            creates=Creates.MAY,
            update_acl="tenant.update.blocksize",
            least=1,
            most=500,
        ),
        blocked_field("tenant", "tenants", "t", "Whether nobody of it may log in"),
        Field(
            name="created_at",
            kind=Kind.TIME,
            text="When it was made",
            sql="t.created_at",
            see=("tenant.see.creation-date",),
        ),
    ),
)


class PurgeWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What goes. C{kinds} empty: all of them.

    @ivar confirm: the tenant's name, so that nobody does it by mistake.
    """

    confirm: str
    kinds: list[Part] = []
    stop_vms: bool = False
    delete_tenant: bool = False


class Contents(msgspec.Struct, forbid_unknown_fields=True):
    """What a tenant has: numbers by collection, and of VMs that have not stopped."""

    counts: dict[str, int]
    running_vms: int


class Tenants(Collection):
    """Tenants."""

    resource = TENANTS
    bulk = ("block", "unblock", "update")

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        own(current)
        counts = await contents(call.services.records, self.peers, current["id"], tx)
        found = [{"kind": kind, "count": count} for kind, count in counts.items() if count]
        if found:
            said = ", ".join(f"{each['count']} {each['kind']}" for each in found)
            raise Problem("has-dependents", f"It has {said}: purge it first", dependents=found)

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        if "name" in values or "blocked" in values:
            own(current)

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        found = super().actions_now(principal, row)
        if row["id"] == SUPERTENANT:
            return [each for each in found if each != "delete"]
        if principal.holds("tenant.update.block"):
            found.append("unblock" if row["blocked"] else "block")
        if principal.holds("tenant.purge."):
            found.append("purge")
        return found

    def more_endpoints(self) -> Sequence[Endpoint]:
        purge = acl("tenant.purge.", superadmin=True)
        return [
            self.switch("block", True),
            self.switch("unblock", False),
            *lists_of_tenants(self),
            Endpoint(
                method="GET",
                path="/tenants/{id}/contents",
                action="tenant.contents",
                need=purge,
                handler=self.read_contents,
                summary="Tenants: how much there is of one",
                answers={200: Contents},
                tag="tenants",
            ),
            Endpoint(
                method="POST",
                path="/tenants/{id}/purge",
                action="tenant.purge",
                need=purge,
                handler=self.purge,
                summary="Tenants: delete what belongs to one; a job",
                body=PurgeWanted,
                answers={202: ACCEPTED},
                dangerous=True,
                tag="tenants",
            ),
        ]

    def switch(self, verb: str, blocked: bool) -> Endpoint:
        """C{block} and C{unblock}."""

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await self.locked(call, tx)
                own(current)
                await call.services.records.update(self.resource, current["id"], {"blocked": blocked}, tx)
                call.subject = self.subject(current, await self.whole(call, current["id"], tx))
                return Answer(200, await self.shown(call, current["id"], tx))

            return await self.changing(call, work)

        return Endpoint(
            method="POST",
            path=f"/tenants/{{id}}/{verb}",
            action=f"tenant.{verb}",
            need=acl("tenant.update.block", superadmin=True),
            handler=handle,
            summary=f"Tenants: {verb} one",
            answers={200: self.item},
            tag="tenants",
        )

    async def read_contents(self, call: Call) -> Answer:
        tenant = await self.find(call, call.number())
        counts = await contents(call.services.records, self.peers, tenant["id"])
        running = await call.services.host_orders.not_stopped(None, tenant["id"])
        return Answer(200, Contents(counts, running))

    async def purge(self, call: Call) -> Answer:
        body: PurgeWanted = call.body
        there = [part.resource.collection for part in parts(self.peers)]
        chosen = [name for name in there if name in body.kinds or not body.kinds]

        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            own(current)
            if body.confirm != current["name"]:
                raise Problem("invalid-value", "confirm must be the tenant's name")
            call.subject = self.subject(current, current)
            return await ask_for(
                call,
                tx,
                PURGE,
                {"kinds": chosen, "stop_vms": body.stop_vms, "delete_tenant": body.delete_tenant},
                object_kind="tenant",
                object_id=current["id"],
                object_name=current["name"],
                unit="objects",
            )

        return await self.changing(call, work)


def own(current: Values) -> None:
    """@raise Problem: that of the administrators over all tenants stays as it is."""
    if current["id"] == SUPERTENANT:
        raise Problem("conflict", "It is that of the administrators over all tenants, and stays as it is")
