# -*- test-case-name: tests.admin.test_properties -*-
"""Definitions of custom properties: which there are, what their values are, and objects of which kinds have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Need, Parameter, acl
from qvd.admin.owners import KINDS, OWNERS, Owner
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.queries import list_query
from qvd.admin.resources.common import id_field, tenant_fields, tenant_join
from qvd.admin.resources.nested import paged
from qvd.interfaces import ITransaction
from qvd.model.declared import SUPERTENANT, Creates, Field, Kind, Resource, Values
from qvd.model.filters import All, Comparison, Operator
from qvd.model.properties import LONGEST_KEY, PRODUCT, PropertyType, shown

MAIN, MANAGE = "property.see-main.", "property.manage."
SEE_VALUES = tuple(f"{kind}.see.properties" for kind in KINDS)
KIND = Parameter("kind", {"type": "string", "enum": list(KINDS)}, "Those of that kind of objects")
FORCE = Parameter("force", {"type": "string", "enum": ["true", "false"]}, "Even if values are lost")


def counted(owner: Owner) -> str:
    """How many objects of a kind have a value."""
    mine = "(p.tenant_id = 0 OR x.tenant_id = p.tenant_id) AND " if owner.tenant else ""
    count = f"(SELECT count(*) FROM {owner.values} x WHERE {mine}x.key = p.key)"
    return f"'{owner.kind}', CASE WHEN '{owner.kind}' = ANY (p.kinds) THEN {count} END"


PROPERTIES = Resource(
    name="property",
    collection="properties",
    title="Properties",
    table="properties",
    alias="p",
    source="properties p",
    keys={"properties": "id"},
    joins=tenant_join("p"),
    tenant="p.tenant_id",
    read=(MAIN,),
    create_acl=MANAGE,
    delete_acl=MANAGE,
    known_by="key",
    fields=(
        id_field("p"),
        Field(
            name="key",
            kind=Kind.TEXT,
            text="Its name. What begins with qvd. is the product's own, and needs no definition",
            sql="p.key",
            column="properties.key",
            creates=Creates.MUST,
            least=1,
            most=LONGEST_KEY,
            pattern=r"^[^\s,=/%\x00-\x1f]+$",
        ),
        Field(
            name="description",
            kind=Kind.TEXT,
            text="For administrators",
            sql="p.description",
            column="properties.description",
            creates=Creates.MAY,
            update_acl=MANAGE,
            most=1024,
            sorts=False,
        ),
        Field(
            name="type",
            kind=Kind.TEXT,
            text="What its values are. Those of a secret are never shown",
            sql="p.type",
            column="properties.type",
            creates=Creates.MAY,
            update_acl=MANAGE,
            choices=tuple(each.value for each in PropertyType),
        ),
        Field(
            name="kinds",
            kind=Kind.LIST,
            text=f"Kinds of objects that have it: {', '.join(KINDS)}",
            sql="p.kinds",
            column="properties.kinds",
            creates=Creates.MAY,
            filters=False,
            sorts=False,
        ),
        Field(
            name="values",
            kind=Kind.OBJECT,
            text="How many objects of each of its kinds have a value",
            sql=f"jsonb_strip_nulls(jsonb_build_object({', '.join(counted(owner) for owner in OWNERS)}))",
            filters=False,
            sorts=False,
        ),
        *tenant_fields("p"),
    ),
)


class Holder(msgspec.Struct, forbid_unknown_fields=True):
    """An object, with its value."""

    id: int
    name: str
    value: str | int | bool | None
    is_set: bool


class Holders(msgspec.Struct, forbid_unknown_fields=True):
    """Objects that have a value, or that have none. C{next}: the cursor to go on with."""

    items: list[Holder]
    next: str | None


class Properties(Collection):
    """Definitions."""

    resource = PROPERTIES

    def endpoints(self) -> Sequence[Endpoint]:
        found = []
        for endpoint in super().endpoints():
            if endpoint.route == "GET /properties":
                parameters = (*endpoint.parameters, KIND)
                endpoint = evolve(endpoint, need=Need((MAIN, *SEE_VALUES)), parameters=parameters)
            elif endpoint.route == "DELETE /properties/{id}":
                endpoint = evolve(endpoint, parameters=(FORCE,))
            found.append(endpoint)
        return found

    def more_endpoints(self) -> Sequence[Endpoint]:
        common: dict[str, Any] = {"need": acl(MANAGE), "answers": {200: self.item}, "tag": "properties"}
        return [
            Endpoint(
                method="PUT",
                path="/properties/{id}/kinds/{kind}",
                action="property.attach",
                handler=self.attach,
                summary="Properties: let objects of a kind have one",
                **common,
            ),
            Endpoint(
                method="DELETE",
                path="/properties/{id}/kinds/{kind}",
                action="property.detach",
                handler=self.detach,
                summary="Properties: let objects of a kind have one no more",
                parameters=(FORCE,),
                **common,
            ),
            Endpoint(
                method="GET",
                path="/properties/{id}/values",
                action="property.values",
                need=acl(*SEE_VALUES),
                handler=self.values,
                summary="Properties: objects that have a value of one, or that have none",
                answers={200: Holders},
                parameters=(
                    KIND,
                    Parameter("missing", {"type": "string", "enum": ["true", "false"]}, "Objects that have none"),
                    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Objects, at most"),
                    Parameter("cursor", {"type": "string"}, "Where to go on, as the answer before said"),
                ),
                tag="properties",
            ),
        ]

    async def read_page(self, call: Call) -> Answer:
        """With C{kind}: whoever may see the values of these objects may see what values there can be."""
        name = call.one("kind")
        if not name:
            if not call.principal.holds(MAIN):
                raise Problem("forbidden", f"You need the permission {MAIN}", acl=MAIN)
            return await super().read_page(call)
        owner = kind_of(name)
        if not call.principal.holds(MAIN, f"{owner.kind}.see.properties"):
            needed = f"{owner.kind}.see.properties"
            raise Problem("forbidden", f"You need the permission {needed}", acl=needed)
        others = {key: values for key, values in call.query.items() if key != "kind"}
        wanted = list_query(self.resource, evolve(call, query=others))
        has = Field(name="kind", kind=Kind.BOOLEAN, text="", sql=f"'{owner.kind}' = ANY (p.kinds)")
        parts = [part for part in (wanted.query.where, Comparison(has, Operator.EQ, True)) if part is not None]
        return await self.page_of(call, evolve(wanted, query=evolve(wanted.query, where=All(tuple(parts)))))

    async def prepare(self, call: Call, values: dict[str, Any]) -> None:
        if values.get("key", "").startswith(PRODUCT):
            text = f"begins with {PRODUCT}, which is the product's own"
            raise Problem("invalid-value", f"The key {text}", [Fault("/key", text)])

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        kinds, tenant_id = values.get("kinds", []), tenant_id or SUPERTENANT
        for kind in kinds:
            if not isinstance(kind, str) or kind not in KINDS or kinds.count(kind) > 1:
                text = f"kinds are some of {', '.join(KINDS)}, each once"
                raise Problem("invalid-value", f"The {text}", [Fault("/kinds", text)])
        if tenant_id < SUPERTENANT:
            fault = Fault("/tenant_id", "has no properties", "reference-not-found")
            raise Problem("reference-not-found", "What is for all tenants belongs to the tenant 0", [fault])
        check_host(call, kinds, tenant_id)

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        if values.get("type", current["type"]) != current["type"] and any(current["values"].values()):
            raise Problem("has-dependents", "There are values of the type that it has", values=current["values"])

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        for kind in current["kinds"]:
            await self.lose(call, tx, current, KINDS[kind])

    async def lose(self, call: Call, tx: ITransaction, current: Values, owner: Owner) -> None:
        """Take the values of one kind away.

        @raise Problem: there are some, and nobody said that they may be lost.
        """
        lost = current["values"].get(owner.kind, 0)
        if lost and call.one("force") != "true":
            text = f"{lost} objects of the kind {owner.kind} have a value, which would be lost: say force=true"
            raise Problem("has-dependents", text, values=current["values"])
        mine = " AND (%(tenant)s = 0 OR tenant_id = %(tenant)s)" if owner.tenant else ""
        parameters = {"key": current["key"], "tenant": current["tenant_id"]}
        await tx.execute(f"DELETE FROM {owner.values} WHERE key = %(key)s{mine}", parameters)

    async def attach(self, call: Call) -> Answer:
        return await self.set_kind(call, True)

    async def detach(self, call: Call) -> Answer:
        return await self.set_kind(call, False)

    async def set_kind(self, call: Call, attached: bool) -> Answer:
        owner = kind_of(call.path["kind"])

        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            others = [kind for kind in current["kinds"] if kind != owner.kind]
            if attached:
                check_host(call, [owner.kind], current["tenant_id"])
            else:
                await self.lose(call, tx, current, owner)
            kinds = [*others, owner.kind] if attached else others
            await call.services.records.update(self.resource, current["id"], {"kinds": kinds}, tx)
            call.subject = self.subject(current, await self.whole(call, current["id"], tx))
            return Answer(200, await self.shown(call, current["id"], tx))

        return await self.changing(call, work)

    async def values(self, call: Call) -> Answer:
        if not call.one("kind"):
            raise Problem("malformed-request", "Say of which kind of objects: kind")
        owner = kind_of(call.one("kind"))
        needed = f"{owner.kind}.see.properties"
        if not call.principal.holds(needed):
            raise Problem("forbidden", f"You need the permission {needed}", acl=needed)
        fields = [self.resource.get(name) for name in ("key", "type", "kinds")]
        found = await self.find(call, call.number(), [field for field in fields if field])
        if owner.kind not in found["kinds"]:
            return Answer(200, Holders([], None))
        limit, cursor = paged(call)
        rows = await call.services.database.fetch(
            f"SELECT o.id, o.{owner.name} AS name, x.value FROM {owner.table} o"
            f" LEFT JOIN {owner.values} x ON x.{owner.column} = o.id AND x.key = %(key)s"
            f" WHERE o.id > %(cursor)s AND (x.value IS NULL) = %(missing)s"
            + (" AND (%(tenant)s = 0 OR o.tenant_id = %(tenant)s)" if owner.tenant else "")
            + " ORDER BY o.id LIMIT %(limit)s",
            {
                "key": found["key"],
                "cursor": cursor,
                "missing": call.one("missing") == "true",
                "tenant": found["tenant_id"],
                "limit": limit + 1,
            },
        )
        kind = PropertyType(found["type"])
        items = [
            Holder(row["id"], row["name"], None if row["value"] is None else shown(kind, row["value"]), has_value(row))
            for row in rows[:limit]
        ]
        return Answer(200, Holders(items, str(items[-1].id) if len(rows) > limit else None))


def has_value(row: Any) -> bool:
    return row["value"] is not None


def kind_of(name: str) -> Owner:
    """@raise Problem: there are no objects of that kind that could have properties."""
    if name not in KINDS:
        raise not_found("kind of objects with properties")
    return KINDS[name]


def check_host(call: Call, kinds: Sequence[str], tenant_id: int) -> None:
    """@raise Problem: nodes belong to no tenant, so no tenant's property is for them."""
    if "host" in kinds and tenant_id != SUPERTENANT and call.principal.multitenant:
        raise Problem("tenant-mismatch", "Nodes have only properties that are defined for all tenants")
