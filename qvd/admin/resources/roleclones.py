# -*- test-case-name: tests.admin.test_roles -*-
"""Roles that begin as others are: how those that come with the product are changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec
from attrs import evolve

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.grants import check_roles, require
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import ITransaction
from qvd.model.declared import COMMON, Values
from qvd.model.roles import Role


class Clone(msgspec.Struct, forbid_unknown_fields=True):
    """Body that makes a role like another one. C{tenant_id}: for administrators over all tenants only."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$")]
    description: Annotated[str, msgspec.Meta(max_length=32768)] = ""
    tenant_id: Annotated[int, msgspec.Meta(ge=-1, le=2147483647)] | None = None


def endpoints(collection: Collection) -> Sequence[Endpoint]:
    return [
        Endpoint(
            method="POST",
            path="/roles/{id}/clone",
            action="role.clone",
            need=acl(collection.resource.create_acl),
            handler=cloner(collection),
            summary="Roles: make one that gives the same",
            body=Clone,
            answers={201: collection.item},
            tag="roles",
        )
    ]


def cloner(collection: Collection) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        tenant_id = tenant_of_clone(collection, call)

        async def work(tx: ITransaction) -> Answer:
            roles, records = call.services.roles, call.services.records
            await roles.lock(tx)
            source: Values = await collection.find(call, call.number(), (), tx)
            target = call.principal.tenant_id if tenant_id is None else tenant_id
            if source["tenant_id"] not in (target, COMMON):
                raise Problem("tenant-mismatch", "A role is cloned within its tenant, or from one that all share")
            graph = await check_roles(call, tx, [source["id"]], target)
            like: Role = graph[source["id"]]
            require_all(call, like)
            values: dict[str, Any] = {"name": call.body.name.strip(), "description": call.body.description}
            object_id = await records.insert(collection.resource, target, values, tx)
            await tx.execute("UPDATE roles SET created_by = %s WHERE id = %s", (call.principal.name, object_id))
            await roles.write(Role(object_id), evolve(like, role_id=object_id), target, tx)
            after = await collection.whole(call, object_id, tx)
            call.subject = Subject("role", object_id, values["name"], target, None, after)
            headers = {
                "Location": f"/api/v1/roles/{object_id}",
                "ETag": await collection.version(call, object_id, tx),
            }
            return Answer(201, await collection.shown(call, object_id, tx), headers)

        return await collection.changing(call, work)

    return handle


def tenant_of_clone(collection: Collection, call: Call) -> int | None:
    """Whose the new role shall be, where that is said.

    @raise Problem: it is not the caller's to say, or must be said.
    """
    wanted: int | None = call.body.tenant_id
    if wanted is not None and not call.principal.superadmin:
        fault = Fault("/tenant_id", "Object contains unknown field `tenant_id`", "unknown-attribute")
        raise Problem("unknown-attribute", fault.detail, [fault])
    return collection.tenant_of_new(call, {} if wanted is None else {"tenant_id": wanted})


def require_all(call: Call, like: Role) -> None:
    """@raise Problem: the caller may not give what the new role begins with."""
    if like.positives or like.negatives:
        require(call.principal, "role.update.assign-acl")
    if like.parents:
        require(call.principal, "role.update.assign-role")
