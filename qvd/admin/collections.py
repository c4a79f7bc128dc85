# -*- test-case-name: tests.admin.test_users -*-
"""The operations that every declared resource has: list, search, read, make, change, delete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from qvd.admin import schema
from qvd.admin.bulk import bulk_endpoint
from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import Endpoint, Need
from qvd.admin.membership import Membership
from qvd.admin.problems import Problem, not_found
from qvd.admin.queries import LIST_PARAMETERS, Search, Wanted, list_query, search_query, sees
from qvd.admin.resources.property_values import set_properties
from qvd.interfaces import ITransaction
from qvd.model.declared import Field, Principal, Values
from qvd.model.errors import Refused
from qvd.model.filters import Filter


class Collection(Membership):
    """The operations of one resource. What is particular about it, a subclass says.

    @ivar bulk: operations on one object that can be asked for of many: C{delete}.
    """

    bulk: tuple[str, ...] = ()

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self.peers = peers

    # What a subclass may say.

    async def prepare(self, call: Call, values: dict[str, Any]) -> None:
        """Before the transaction of a creation or a change: what takes time, such as a hash."""

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        """@raise Problem: it cannot be made so."""

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        """Write what has no column."""

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        """@raise Problem: it cannot be changed so."""

    async def changed(self, call: Call, tx: ITransaction, current: Values, values: Mapping[str, Any]) -> None:
        """Write what has no column."""

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        """@raise Problem: it cannot be deleted now."""

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        """What this caller may do with the object in the state that it is in."""
        found = []
        if any(self.may_change(principal, each) for each in self.resource.fields):
            found.append("update")
        if self.resource.delete_acl and principal.holds(self.resource.delete_acl):
            found.append("delete")
        return found

    def only(self, principal: Principal) -> Filter | None:
        """Which objects of the scope this caller sees, where it is not all of them. For events: whoever narrows lists
        and L{find} says it here too."""
        return None

    def view(self, principal: Principal) -> Collection:
        """The collection as this caller sees it."""
        return self

    def brief(self, principal: Principal) -> Sequence[str]:
        """Names of the fields that are shown where nobody says which; none: all."""
        return ()

    def completed(self, wanted: Wanted) -> Wanted:
        """What was asked for, with the fields besides those that are shown that L{document} needs."""
        return wanted

    def more_endpoints(self) -> Sequence[Endpoint]:
        """Operations that only this resource has."""
        return ()

    # What all have.

    @cached_property
    def item(self) -> Any:
        """Type of an object in answers."""
        return schema.item(self.resource)

    @cached_property
    def page_type(self) -> Any:
        """Type of a page of them. One only: types are known by their names."""
        return schema.page(self.resource, self.item)

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations of the resource."""
        resource = self.resource
        read = Need(resource.read, superadmin=resource.superadmin_reads)
        path, name = f"/{resource.collection}", resource.name
        page = self.page_type
        common: dict[str, Any] = {"tag": resource.collection}
        found = [
            Endpoint(
                method="GET",
                path=path,
                action=f"{name}.list",
                need=read,
                handler=self.read_page,
                summary=f"{resource.title}: a page of those that match",
                answers={200: page},
                parameters=LIST_PARAMETERS,
                open_query=True,
                filtered=resource,
                **common,
            ),
            Endpoint(
                method="POST",
                path=f"{path}/search",
                action=f"{name}.search",
                need=read,
                handler=self.search,
                summary=f"{resource.title}: the same, for conditions that are too long for a URL",
                body=Search,
                answers={200: page},
                audited=False,
                **common,
            ),
            Endpoint(
                method="GET",
                path=f"{path}/{{id}}",
                action=f"{name}.read",
                need=read,
                handler=self.read,
                summary=f"{resource.title}: one of them",
                answers={200: self.item},
                parameters=LIST_PARAMETERS[:2],
                **common,
            ),
        ]
        if resource.create_acl:
            found.append(
                Endpoint(
                    method="POST",
                    path=path,
                    action=f"{name}.create",
                    need=Need((resource.create_acl,), superadmin=resource.superadmin),
                    handler=self.create,
                    summary=f"{resource.title}: make a new one",
                    body=schema.creation(resource),
                    answers={201: self.item},
                    **common,
                )
            )
        acls = tuple(dict.fromkeys(field.update_acl for field in resource.fields if field.update_acl))
        if acls:
            found.append(
                Endpoint(
                    method="PATCH",
                    path=f"{path}/{{id}}",
                    action=f"{name}.update",
                    need=Need(acls, superadmin=resource.superadmin),
                    handler=self.update,
                    summary=f"{resource.title}: change one",
                    body=schema.change(resource),
                    media="application/merge-patch+json",
                    answers={200: self.item},
                    if_match=resource.if_match,
                    **common,
                )
            )
        if resource.delete_acl:
            found.append(
                Endpoint(
                    method="DELETE",
                    path=f"{path}/{{id}}",
                    action=f"{name}.delete",
                    need=Need((resource.delete_acl,), superadmin=resource.superadmin),
                    handler=self.delete,
                    summary=f"{resource.title}: delete one",
                    answers={204: None},
                    if_match=resource.if_match,
                    **common,
                )
            )
        found += self.more_endpoints()
        return [*found, bulk_endpoint(self, found)] if self.bulk else found

    async def read_page(self, call: Call) -> Answer:
        return await self.page_of(call, list_query(self.resource, call))

    async def search(self, call: Call) -> Answer:
        return await self.page_of(call, search_query(self.resource, call))

    async def page_of(self, call: Call, wanted: Any) -> Answer:
        """The page that was asked for."""
        records = call.services.records
        rows = await records.page(self.resource, wanted.fields, call.scope, wanted.query)
        total = await records.count(self.resource, call.scope, wanted.query.where) if wanted.count else None
        items = [self.document(call.principal, row, wanted) for row in rows.items]
        info = wanted.page_info(rows, total)
        body = {"items": items, "page": info}
        tag = etag(body)
        if matches(call.headers.get("if-none-match", ""), tag):
            return Answer(304, None, {"ETag": tag})
        return Answer(200, body, {"ETag": tag, **wanted.links(call, info)})

    def document(self, principal: Principal, row: Values, wanted: Any) -> dict[str, Any]:
        """An object as this caller sees it."""
        document = {"id": row["id"]} | {each.name: row[each.name] for each in wanted.shown}
        if wanted.with_actions:
            document["_actions"] = self.actions_now(principal, row)
        return document

    async def read(self, call: Call) -> Answer:
        wanted = list_query(self.resource, call)
        row = await self.find(call, call.number(), wanted.fields)
        document = self.document(call.principal, row, wanted)
        tag = await self.version(call, call.number())
        if matches(call.headers.get("if-none-match", ""), tag):
            return Answer(304, None, {"ETag": tag})
        return Answer(200, document, {"ETag": tag})

    async def find(
        self,
        call: Call,
        object_id: int,
        fields: Sequence[Field] = (),
        tx: ITransaction | None = None,
        lock: bool = False,
    ) -> Values:
        """An object in the caller's scope.

        @raise Problem: there is none.
        """
        row: Values | None = await call.services.records.find(self.resource, fields, call.scope, object_id, tx, lock)
        if row is None:
            raise not_found(self.resource.name)
        return row

    def visible(self, principal: Principal) -> list[Field]:
        """Fields that this caller may see."""
        return [field for field in self.resource.fields if sees(principal, field)]

    async def version(self, call: Call, object_id: int, tx: ITransaction | None = None) -> str:
        """The entity tag of an object: of all that this caller sees of it."""
        row = await self.find(call, object_id, self.visible(call.principal), tx)
        return etag({field.name: row[field.name] for field in self.visible(call.principal)})

    async def shown(self, call: Call, object_id: int, tx: ITransaction) -> dict[str, Any]:
        """All that the caller sees of it."""
        fields = self.visible(call.principal)
        row = await self.find(call, object_id, fields, tx)
        return {"id": object_id} | {field.name: row[field.name] for field in fields}

    async def whole(self, call: Call, object_id: int, tx: ITransaction) -> dict[str, Any]:
        """All that can be read of it, for the audit trail."""
        fields = [field for field in self.resource.fields if field.sql]
        row = await self.find(call, object_id, fields, tx)
        return {"id": object_id} | {field.name: row[field.name] for field in fields}

    async def create(self, call: Call) -> Answer:
        return await self.create_of(call, schema.given(call.body))

    async def create_of(self, call: Call, values: dict[str, Any]) -> Answer:
        """Make an object of these members."""
        resource = self.resource
        self.check_members(call.principal, values, creating=True)
        tenant_id = self.tenant_of_new(call, values)
        await self.prepare(call, values)

        async def work(tx: ITransaction) -> Answer:
            await self.check_references(call, tx, values, tenant_id)
            await self.check_creation(call, tx, tenant_id, values)
            object_id = await call.services.records.insert(resource, tenant_id, values, tx)
            await self.created(call, tx, object_id, values)
            properties = await set_properties(call, tx, resource.name, object_id, values)
            after = {**await self.whole(call, object_id, tx), **properties.after}
            owner = after.get("tenant_id") if tenant_id is None else tenant_id
            label = str(after.get(resource.known_by, ""))
            call.subject = Subject(resource.name, object_id, label, owner, None, after)
            document = await self.shown(call, object_id, tx)
            tag = await self.version(call, object_id, tx)
            headers = {"Location": f"/api/v1/{resource.collection}/{object_id}", "ETag": tag}
            return Answer(201, document, headers)

        return await self.changing(call, work)

    async def update(self, call: Call) -> Answer:
        values = schema.given(call.body)
        self.check_members(call.principal, values, creating=False)
        return await self.write(call, values)

    async def write(self, call: Call, values: dict[str, Any]) -> Answer:
        """Change the object of a call. That the caller may set these fields is checked already."""
        await self.prepare(call, values)

        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            await self.check_references(call, tx, values, current.get("tenant_id"))
            await self.check_change(call, tx, current, values)
            await call.services.records.update(self.resource, current["id"], values, tx)
            await self.changed(call, tx, current, values)
            properties = await set_properties(call, tx, self.resource.name, current["id"], values)
            after = {**await self.whole(call, current["id"], tx), **properties.after}
            call.subject = self.subject({**current, **properties.before}, after)
            document = await self.shown(call, current["id"], tx)
            return Answer(200, document, {"ETag": await self.version(call, current["id"], tx)})

        return await self.changing(call, work)

    async def delete(self, call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            await self.check_deletion(call, tx, current)
            await call.services.records.delete(self.resource, current["id"], tx)
            call.subject = self.subject(current, None)
            return Answer(204)

        return await self.changing(call, work)

    async def locked(self, call: Call, tx: ITransaction, object_id: int | None = None) -> Values:
        """The object of a call, with all that can be read of it, locked, and of the version that was meant.

        @raise Problem: there is none in the caller's scope, it is nobody's to change, or it has changed meanwhile.
        """
        wanted = call.number() if object_id is None else object_id
        fields = [field for field in self.resource.fields if field.sql]
        current = await self.find(call, wanted, fields, tx, lock=True)
        self.check_owner(call.principal, current)
        expected = call.headers.get("if-match", "*")
        if expected != "*" and not matches(expected, await self.version(call, wanted, tx)):
            raise Problem("precondition-failed", "Somebody has changed it meanwhile: read it again")
        return current

    def subject(self, before: Values, after: Values | None) -> Subject:
        """What a change was about."""
        name, tenant_id = str(before.get(self.resource.known_by, "")), before.get("tenant_id")
        return Subject(self.resource.name, before["id"], name, tenant_id, before, after)

    async def changing(self, call: Call, work: Any) -> Answer:
        """Run a change; what the database refuses is told in the words of the API."""
        try:
            answer: Answer = await call.change(work)
        except Refused as error:
            raise self.refused(error) from error
        return answer

    def refused(self, error: Refused) -> Problem:
        """What a constraint of the database means here."""
        match error.kind:
            case "unique":
                return Problem("already-exists", error.text)
            case "dependents":
                return Problem("has-dependents", error.text)
            case "reference":
                return Problem("reference-not-found", error.text)
            case "limit":
                return Problem("conflict", error.text)
            case _:
                return Problem("invalid-value", error.text)


def etag(value: Any) -> str:
    """Of what a caller sees."""
    return f'"{hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:24]}"'


def matches(header: str, tag: str) -> bool:
    """C{If-Match} and C{If-None-Match}: RFC 9110, section 13.1."""
    return header.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in header.split(",")]
