# -*- test-case-name: tests.admin.test_properties -*-
"""Values of custom properties: those of an object, and what a VM has in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from attrs import frozen
from msgspec import UNSET, UnsetType

from qvd.admin.call import HIDDEN, Answer, Call, Subject
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.owners import KINDS, OWNERS, Owner
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.resources.nested import find_owner
from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.model.declared import SUPERTENANT, Principal, Values
from qvd.model.errors import InvalidRequest
from qvd.model.properties import LONGEST_KEY, PRODUCT, PropertyType, check_product, shown, stored

MOST_AT_ONCE = 100
"""Keys of one call."""


class PropertyOfObject(msgspec.Struct, forbid_unknown_fields=True):
    """A value. That of a secret is not shown. C{origin}: of which of the kinds the value is that counts."""

    key: str
    value: str | int | bool | None
    type: str
    description: str
    is_set: bool = True
    origin: str | UnsetType = UNSET


class PropertyList(msgspec.Struct, forbid_unknown_fields=True):
    """All values, by key."""

    items: list[PropertyOfObject]


class PropertyValue(msgspec.Struct, forbid_unknown_fields=True):
    """What to set a property to; null: it has none any more."""

    value: str | int | bool | None


@frozen
class Definition:
    """What is known of a key. C{tenant_id} is L{None} where it is the product's own, or nobody defined it."""

    key: str
    type: PropertyType = PropertyType.TEXT
    description: str = ""
    tenant_id: int | None = None
    kinds: Sequence[str] = ()

    def hidden_from(self, principal: Principal) -> bool:
        """Those of all tenants are the business of who is over all tenants."""
        return self.tenant_id == SUPERTENANT and principal.multitenant and not principal.superadmin

    def document(self, row: Row) -> PropertyOfObject:
        made = PropertyOfObject(self.key, shown(self.type, row["value"]), self.type.value, self.description)
        if "origin" in row:
            made.origin = row["origin"]
        return made

    def told(self, text: str | None) -> Any:
        """A value for the audit trail."""
        return HIDDEN if text is not None and self.type is PropertyType.SECRET else text


async def definitions(
    reads: ITransaction | IDatabase, keys: Sequence[str], tenant_id: int | None
) -> Mapping[str, Definition]:
    """Of keys, as they are for objects of a tenant, or (L{None}) of none."""
    rows = await reads.fetch(
        "SELECT key, type, description, tenant_id, kinds FROM properties"
        " WHERE key = ANY (%(keys)s) AND (tenant_id IN (0, %(tenant)s) OR %(tenant)s IS NULL AND 'host' = ANY (kinds))"
        " ORDER BY tenant_id DESC",
        {"keys": list(keys), "tenant": tenant_id},
    )
    found = {key: Definition(key) for key in keys}
    return found | {row["key"]: Definition(**{**row, "type": PropertyType(row["type"])}) for row in rows}


class PropertyValues:
    """Operations on the properties of each kind of objects."""

    def __init__(self, peers: object) -> None:
        """@param peers: all collections; the objects are looked up here, for their names and tenants only."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations, of all kinds."""
        return [endpoint for owner in OWNERS for endpoint in self.of_kind(owner)]

    def of_kind(self, owner: Owner) -> Sequence[Endpoint]:
        path, title = f"/{owner.collection}/{{id}}/properties", owner.collection.title()
        effective = Parameter("effective", {"type": "string", "enum": ["true", "false"]}, "With those it gets")
        changing: dict[str, Any] = {
            "need": acl(f"{owner.kind}.update.properties", superadmin=not owner.tenant),
            "tag": owner.collection,
        }
        return [
            Endpoint(
                method="GET",
                path=path,
                action=f"{owner.kind}.read-properties",
                need=acl(f"{owner.kind}.see.properties", superadmin=not owner.tenant),
                handler=reading(owner),
                summary=f"{title}: properties of one",
                answers={200: PropertyList},
                parameters=(effective,) if owner.kind == "vm" else (),
                tag=owner.collection,
            ),
            Endpoint(
                method="PUT",
                path=f"{path}/{{key}}",
                action=f"{owner.kind}.set-property",
                handler=setting(owner),
                summary=f"{title}: set a property of one",
                body=PropertyValue,
                answers={200: PropertyList},
                **changing,
            ),
            Endpoint(
                method="DELETE",
                path=f"{path}/{{key}}",
                action=f"{owner.kind}.delete-property",
                handler=deleting(owner),
                summary=f"{title}: take a property away from one",
                **changing,
            ),
        ]


def reading(owner: Owner) -> Any:
    async def read(call: Call) -> Answer:
        database = call.services.database
        row = await find_owner(database, owner, call.principal, call.number())
        effective = call.one("effective") == "true"
        return Answer(200, await properties_of(database, owner, row, call.principal, effective))

    return read


async def properties_of(
    reads: ITransaction | IDatabase, owner: Owner, row: Row, principal: Principal, effective: bool = False
) -> PropertyList:
    """Those of an object that the caller may know of."""
    sql = (
        "SELECT key, value, origin FROM vm_properties_of(%s) ORDER BY key"
        if effective
        else f"SELECT key, value FROM {owner.values} WHERE {owner.column} = %s ORDER BY key"
    )
    values = await reads.fetch(sql, (row["id"],))
    known = await definitions(reads, [each["key"] for each in values], row["tenant_id"])
    return PropertyList(
        [
            known[each["key"]].document(each)
            for each in values
            if not known[each["key"]].hidden_from(principal)
        ]
    )  # fmt: skip


def setting(owner: Owner) -> Any:
    async def put(call: Call) -> Answer:
        body: PropertyValue = call.body
        # Whether it is a secret is not known before the definition is read.
        call.body = PropertyValue(HIDDEN if body.value is not None else None)

        async def work(tx: ITransaction) -> Answer:
            row = await find_owner(tx, owner, call.principal, call.number(), change=True)
            key = call.path["key"]
            if len(key) > LONGEST_KEY:
                raise not_found("property")
            definition = (await definitions(tx, [key], row["tenant_id"]))[key]
            check_settable(owner, definition, call.principal)
            text = None if body.value is None else checked(owner, definition, body.value)
            before = await write(tx, owner, row, definition.key, text)
            call.subject = subject(owner, row, definition, before, text)
            return Answer(200, await properties_of(tx, owner, row, call.principal))

        return await call.change(work)

    return put


def deleting(owner: Owner) -> Any:
    async def delete(call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            row = await find_owner(tx, owner, call.principal, call.number(), change=True)
            key = call.path["key"]
            definition = (await definitions(tx, [key], row["tenant_id"]))[key]
            if definition.hidden_from(call.principal):
                raise not_found("property")
            before = await write(tx, owner, row, key, None)
            if before is None:
                raise not_found("property")
            call.subject = subject(owner, row, definition, before, None)
            return Answer(204)

        return await call.change(work)

    return delete


def check_settable(owner: Owner, definition: Definition, principal: Principal) -> None:
    """@raise Problem: objects of the kind have no such property."""
    if definition.key.startswith(PRODUCT):
        return
    if definition.hidden_from(principal) or owner.kind not in definition.kinds:
        said = f"Objects of the kind {owner.kind} have no property {definition.key}: define it first"
        raise Problem("reference-not-found", said)


def checked(owner: Owner, definition: Definition, value: str | int | bool, pointer: str = "/value") -> str:
    """The value as it is stored.

    @raise Problem: it is none of the property's.
    """
    try:
        text = stored(definition.type, value)
        if definition.key.startswith(PRODUCT):
            check_product(owner.kind, definition.key, text)
    except InvalidRequest as error:
        raise Problem("invalid-value", error.text, [Fault(pointer, error.text)]) from None
    return text


async def write(tx: ITransaction, owner: Owner, row: Row, key: str, text: str | None) -> str | None:
    """Set a value, or take it away; what there was before. The object's row is locked."""
    column = owner.column
    old = await tx.fetch_one(f"SELECT value FROM {owner.values} WHERE {column} = %s AND key = %s", (row["id"], key))
    await tx.execute(f"DELETE FROM {owner.values} WHERE {column} = %s AND key = %s", (row["id"], key))
    if text is not None:
        values = {column: row["id"], "key": key, "value": text} | (
            {"tenant_id": row["tenant_id"]} if owner.tenant else {}
        )
        await tx.execute(
            f"INSERT INTO {owner.values} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
            tuple(values.values()),
        )
    return None if old is None else str(old["value"])


def subject(owner: Owner, row: Row, definition: Definition, before: str | None, after: str | None) -> Subject:
    """What was changed. A tenant's administrators do not read of properties that are no business of theirs."""
    hidden = definition.tenant_id == SUPERTENANT
    was, will = (
        {"properties": {} if text is None else {definition.key: definition.told(text)}} for text in (before, after)
    )
    return Subject(owner.kind, row["id"], row["name"], SUPERTENANT if hidden else row["tenant_id"], was, will)


@frozen
class Told:
    """What the member C{properties} of a creation or a change did, for the audit trail. Empty where there was none."""

    before: Mapping[str, Any] = {}
    after: Mapping[str, Any] = {}


async def set_properties(call: Call, tx: ITransaction, kind: str, object_id: int, values: Values) -> Told:
    """Write the member C{properties} of what a call makes or changes.

    @raise Problem: objects of the kind have no such property, or a value is none of it.
    """
    wanted: Mapping[str, Any] = values.get("properties", {})
    if not wanted:
        return Told()
    owner = KINDS[kind]
    if len(wanted) > MOST_AT_ONCE or any(not key or len(key) > LONGEST_KEY or "\0" in key for key in wanted):
        raise wrong("/properties", f"At most {MOST_AT_ONCE} keys of {LONGEST_KEY} characters")
    row = await tx.fetch_one(
        f"SELECT id, {owner.tenant_sql} AS tenant_id FROM {owner.table} WHERE id = %s", (object_id,)
    )
    assert row is not None, "it is made or locked"
    known = await definitions(tx, list(wanted), row["tenant_id"])
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for key, value in sorted(wanted.items()):
        definition, pointer = known[key], f"/properties/{key}"
        check_settable(owner, definition, call.principal)
        if definition.tenant_id == SUPERTENANT and call.principal.multitenant and (row["tenant_id"] or 0) > 0:
            # The row of the audit trail is the tenant's to read.
            raise wrong(pointer, f"{key} is a property of all tenants: set it with PUT, by itself")
        if value is not None and not isinstance(value, str | int | bool):
            raise wrong(pointer, "A value is a text, a whole number, true, false, or null")
        text = None if value is None else checked(owner, definition, value, pointer)
        old = await write(tx, owner, row, key, text)
        before |= {} if old is None else {key: definition.told(old)}
        after |= {} if text is None else {key: definition.told(text)}
    return Told({"properties": before}, {"properties": after})


def wrong(pointer: str, sentence: str) -> Problem:
    return Problem("invalid-value", sentence, [Fault(pointer, sentence)])


async def refuse_secrets(call: Call, arguments: Mapping[str, Any]) -> None:
    """@raise Problem: secrets are among the properties that are to be set on many objects: these values are kept with
    a job."""
    wanted = arguments.get("properties")
    if not isinstance(wanted, Mapping) or not wanted:
        return
    found = await call.services.database.fetch(
        "SELECT FROM properties WHERE type = 'secret' AND key = ANY (%(keys)s)"
        " AND coalesce(tenant_id = %(tenant)s, true) LIMIT 1",
        {"keys": list(wanted), "tenant": call.scope.tenant_id},
    )
    if found:
        raise wrong("/arguments/properties", "Secrets are set one by one, not in bulk")
