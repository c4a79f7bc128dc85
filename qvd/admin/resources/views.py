# -*- test-case-name: tests.admin.test_views -*-
"""
Views: which columns and filters a list has. An administrator's own choice counts before the tenant's, that before what
the declarations of the fields suggest. They hide nothing: what somebody may see is another question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from attrs import frozen
from msgspec import UNSET, UnsetType

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import LOGGED_IN, Endpoint, Need, Parameter
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.queries import sees
from qvd.interfaces import IDatabase, ITransaction
from qvd.model.declared import Field, Kind, Principal, Resource

FIRST, MOST = 8, 100
"""Columns where nobody chose; columns at most."""
PROPERTY = "property:"
"""Before the key of a custom property, as the name of a column."""
UPDATE = {
    "columns": "views.update.columns",
    "filters_desktop": "views.update.filters-desktop",
    "filters_mobile": "views.update.filters-mobile",
}
TENANT = Parameter("tenant_id", {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}, "Of that tenant")
Names = Annotated[list[Annotated[str, msgspec.Meta(max_length=300)]], msgspec.Meta(max_length=MOST)]


class View(msgspec.Struct, forbid_unknown_fields=True):
    """A list, in that order. C{origin}: own, tenant or default; that of the nearest choice."""

    section: str
    columns: list[str]
    filters_desktop: list[str]
    filters_mobile: list[str]
    origin: str


class Views(msgspec.Struct, forbid_unknown_fields=True):
    """Of all lists that somebody may see."""

    items: list[View]


class NewView(msgspec.Struct, forbid_unknown_fields=True):
    """What to choose; what is not named stays as it is."""

    columns: Names | UnsetType = UNSET
    filters_desktop: Names | UnsetType = UNSET
    filters_mobile: Names | UnsetType = UNSET


@frozen
class Holder:
    """Whose a choice is. Without an administrator, the tenant's."""

    tenant_id: int
    administrator_id: int | None = None


class ViewSettings:
    """Operations on views."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        """@param peers: all collections: each is a section, by the name of its resource."""
        self.sections = peers

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        see, change = Need(("views.see-main.",)), Need(tuple(UPDATE.values()))
        mine: dict[str, Any] = {"need": LOGGED_IN, "tag": "views", "answers": {200: View}}
        tenants: dict[str, Any] = {"tag": "views", "answers": {200: View}, "parameters": (TENANT,)}
        path, own = "/views/{section}", "/me/views/{section}"
        return [
            Endpoint(
                method="GET",
                path="/me/views",
                action="view.list-own",
                need=LOGGED_IN,
                handler=self.read_all,
                summary="Views: columns and filters of all lists, as they count for the caller",
                answers={200: Views},
                tag="views",
            ),
            Endpoint(
                method="GET",
                path=own,
                action="view.read-own",
                handler=self.read_own,
                summary="Views: columns and filters of a list, as they count for the caller",
                **mine,
            ),
            Endpoint(
                method="PUT",
                path=own,
                action="view.set-own",
                handler=self.set_own,
                summary="Views: choose columns and filters of a list for oneself",
                body=NewView,
                **mine,
            ),
            Endpoint(
                method="DELETE",
                path=own,
                action="view.reset-own",
                handler=self.reset_own,
                summary="Views: choose nothing for oneself, so that the tenant's choice counts",
                **mine,
            ),
            Endpoint(
                method="GET",
                path=path,
                action="view.read",
                need=see,
                handler=self.read_tenants,
                summary="Views: what a tenant's administrators have who chose nothing",
                **tenants,
            ),
            Endpoint(
                method="PUT",
                path=path,
                action="view.set",
                need=change,
                handler=self.set_tenants,
                summary="Views: choose for all administrators of a tenant",
                body=NewView,
                **tenants,
            ),
            Endpoint(
                method="DELETE",
                path=path,
                action="view.reset",
                need=Need((UPDATE["columns"],)),
                handler=self.reset_tenants,
                summary="Views: choose nothing for a tenant, so that the default counts",
                **tenants,
            ),
        ]

    def section(self, call: Call) -> Resource:
        """The list that a call is about.

        @raise Problem: there is none, or not for the caller.
        """
        for peer in self.sections.values():
            if peer.resource.name == call.path["section"] and reads(call.principal, peer.resource):
                return peer.resource
        raise not_found("section")

    async def read_all(self, call: Call) -> Answer:
        resources = [each.resource for each in self.sections.values() if reads(call.principal, each.resource)]
        return Answer(200, Views([await self.found(call, own(call), resource) for resource in resources]))

    async def read_own(self, call: Call) -> Answer:
        return Answer(200, await self.found(call, own(call), self.section(call)))

    async def set_own(self, call: Call) -> Answer:
        return await self.change(call, own(call), self.section(call))

    async def reset_own(self, call: Call) -> Answer:
        return await self.change(call, own(call), self.section(call))

    async def read_tenants(self, call: Call) -> Answer:
        return Answer(200, await self.found(call, tenants(call), self.section(call)))

    async def set_tenants(self, call: Call) -> Answer:
        for name, needed in UPDATE.items():
            if getattr(call.body, name) is not UNSET and not call.principal.holds(needed):
                fault = Fault(f"/{name}", f"needs the permission {needed}", "forbidden-attribute")
                raise Problem("forbidden-attribute", f"You may not set {name}", [fault], acl=needed)
        return await self.change(call, tenants(call), self.section(call))

    async def reset_tenants(self, call: Call) -> Answer:
        for needed in UPDATE.values():
            if not call.principal.holds(needed):
                raise Problem("forbidden", f"You need the permission {needed}", acl=needed)
        return await self.change(call, tenants(call), self.section(call))

    async def found(
        self, call: Call, holder: Holder, resource: Resource, reads: IDatabase | ITransaction | None = None
    ) -> View:
        """What counts, without what the caller may not see."""
        setups = await stored(reads or call.services.database, holder, resource.name)
        merged, origin = default(resource), "default"
        for name, setup in setups:
            merged, origin = {**merged, **setup}, name
        able = {
            name: [each for each in merged[name] if usable(call.principal, resource, name, each)] for name in UPDATE
        }
        return View(resource.name, origin=origin, **able)

    async def change(self, call: Call, holder: Holder, resource: Resource) -> Answer:
        """Choose, or (without a body) choose nothing any more."""
        chosen = None
        if call.body is not None:
            chosen = {name: value for name in UPDATE if (value := getattr(call.body, name)) is not UNSET}
            check(call.principal, resource, chosen)

        async def work(tx: ITransaction) -> Answer:
            if not await tx.fetch("SELECT FROM tenants WHERE id = %s FOR KEY SHARE", (holder.tenant_id,)):
                raise Problem("reference-not-found", f"There is no tenant {holder.tenant_id}")
            before = await self.found(call, holder, resource, tx)
            where = "tenant_id = %s AND administrator_id IS NOT DISTINCT FROM %s AND section = %s"
            place = (holder.tenant_id, holder.administrator_id, resource.name)
            if chosen is None:
                await tx.execute(f"DELETE FROM views WHERE {where}", place)
            else:
                setup = msgspec.json.encode(chosen).decode()
                await tx.execute(
                    "INSERT INTO views (tenant_id, administrator_id, section, setup) VALUES (%s, %s, %s, %s::jsonb)"
                    " ON CONFLICT (tenant_id, section, coalesce(administrator_id, 0))"
                    " DO UPDATE SET setup = views.setup || excluded.setup",
                    (*place, setup),
                )
            after = await self.found(call, holder, resource, tx)
            was, will = msgspec.to_builtins(before), msgspec.to_builtins(after)
            call.subject = Subject("view", None, resource.name, holder.tenant_id, was, will)
            return Answer(200, after)

        return await call.change(work)


async def stored(reads: IDatabase | ITransaction, holder: Holder, section: str) -> Sequence[tuple[str, Any]]:
    """Choices, the nearest last, each with whose it is."""
    rows = await reads.fetch(
        "SELECT administrator_id IS NOT NULL AS own, setup FROM views WHERE tenant_id = %s AND section = %s"
        " AND (administrator_id IS NULL OR administrator_id = %s) ORDER BY administrator_id NULLS FIRST",
        (holder.tenant_id, section, holder.administrator_id),
    )
    return [("own" if row["own"] else "tenant", row["setup"]) for row in rows]


def own(call: Call) -> Holder:
    return Holder(call.principal.tenant_id, call.principal.administrator_id)


def tenants(call: Call) -> Holder:
    """The tenant of a call: who is over all tenants may name one.

    @raise Problem: somebody else does.
    """
    text, principal = call.one("tenant_id"), call.principal
    if not text:
        return Holder(principal.tenant_id)
    if not principal.superadmin:
        raise Problem("unknown-filter", "There is no parameter 'tenant_id' here")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem("malformed-request", "tenant_id is a whole number")
    return Holder(int(text))


def reads(principal: Principal, resource: Resource) -> bool:
    """Whether somebody may see the list at all."""
    if resource.superadmin_reads and principal.multitenant and not principal.superadmin:
        return False
    return principal.holds(*resource.read)


def default(resource: Resource) -> dict[str, list[str]]:
    """What the declarations suggest: columns, and of those the ones that can be filtered by."""
    plain = [field for field in resource.fields if is_column(field) and field.name not in ("id", "tenant_id")][:FIRST]
    plain = [field for name in resource.columns if (field := resource.get(name)) is not None] or plain
    filters = [field.name for field in plain if field.filters]
    return {"columns": [field.name for field in plain], "filters_desktop": filters, "filters_mobile": filters[:1]}


def is_column(field: Field) -> bool:
    return bool(field.sql) and field.kind not in (Kind.OBJECT, Kind.LIST)


def usable(principal: Principal, resource: Resource, part: str, name: str) -> bool:
    """Whether somebody may have a column or filter of that name."""
    if name.startswith(PROPERTY):
        return bool(name.removeprefix(PROPERTY)) and principal.holds(f"{resource.name}.see.properties")
    field = resource.get(name)
    if field is None or not sees(principal, field):
        return False
    return bool(field.sql) if part == "columns" else field.filters


def check(principal: Principal, resource: Resource, chosen: Mapping[str, Sequence[str]]) -> None:
    """@raise Problem: there is something among them that the caller could not have, or twice."""
    faults = [
        Fault(f"/{part}/{index}", f"there is no such column or filter: {name}", "unknown-field")
        for part, names in chosen.items()
        for index, name in enumerate(names)
        if not usable(principal, resource, part, name) or names.index(name) < index
    ]
    if faults:
        raise Problem("invalid-value", "There are no such columns or filters, or they are named twice", faults)
