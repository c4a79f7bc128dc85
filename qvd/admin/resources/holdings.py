# -*- test-case-name: tests.admin.test_administrators -*-
"""What administrators hold: their roles, what comes of them, and their passwords."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.grants import check_administrator, check_roles
from qvd.admin.login.verify import check_not_oneself_by_token
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.resources import acllists
from qvd.admin.schema import LARGEST, SECRET
from qvd.interfaces import ITransaction
from qvd.model.acls import operative
from qvd.model.declared import SUPERTENANT, Scope, Values

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
MOST = 100
"""Roles that somebody may hold, or that a role may inherit."""
Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class NewPassword(msgspec.Struct, forbid_unknown_fields=True):
    """Body that sets a password. C{must_change}: it is good for nothing but choosing another one."""

    password: Annotated[
        str, msgspec.Meta(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD, extra_json_schema=SECRET)
    ]
    must_change: bool = False


class RoleNumbers(msgspec.Struct, forbid_unknown_fields=True):
    """Body with all the roles that an administrator shall hold."""

    roles: Annotated[list[Number], msgspec.Meta(max_length=MOST)]


def numbers(values: Sequence[Any], pointer: str) -> list[int]:
    """@raise Problem: it is no list of numbers of objects."""
    fault = Fault(pointer, f"is a list of numbers, at most {MOST}")
    if len(values) > MOST or not all(type(each) is int and 0 <= each <= LARGEST for each in values):
        raise Problem("invalid-value", "Roles are named by their numbers", [fault])
    return list(dict.fromkeys(values))


async def check_givable(
    collection: Collection, call: Call, tx: ITransaction, role_ids: Iterable[int], tenant_id: int
) -> None:
    """@param tenant_id: whose the administrator is.

    @raise Problem: a role is not there for that tenant, or gives more than the caller holds.
    """
    wanted = list(role_ids)
    roles = collection.peers["roles"].resource
    for role_id in wanted:
        if await call.services.records.find(roles, (), Scope(tenant_id), role_id, tx) is None:
            fault = Fault("/roles", f"there is no role {role_id}", "reference-not-found")
            raise Problem("reference-not-found", f"There is no role {role_id}", [fault])
    await check_roles(call, tx, wanted, tenant_id)


def endpoints(collection: Collection) -> Sequence[Endpoint]:
    """Operations on one administrator."""
    item, assign = collection.item, acl("administrator.update.assign-role")
    path = "/administrators/{id}"

    def one_more(held: list[int], call: Call) -> list[int]:
        return [*held, call.number("role_id")]

    def one_less(held: list[int], call: Call) -> list[int]:
        role_id = call.number("role_id")
        if role_id not in held:
            raise not_found("role")
        return [each for each in held if each != role_id]

    def whole_set(held: list[int], call: Call) -> list[int]:
        return list(dict.fromkeys(call.body.roles))

    return [
        Endpoint(
            method="PUT",
            path=f"{path}/password",
            action="administrator.password",
            need=acl("administrator.update.password"),
            handler=password_setter(collection),
            summary="Administrators: set the password of one",
            body=NewPassword,
            dangerous=True,
            tag="administrators",
        ),
        Endpoint(
            method="PUT",
            path=f"{path}/roles",
            action="administrator.roles",
            need=assign,
            handler=role_setter(collection, whole_set),
            summary="Administrators: all roles that one shall hold",
            body=RoleNumbers,
            answers={200: item},
            if_match=True,
            dangerous=True,
            tag="administrators",
        ),
        Endpoint(
            method="PUT",
            path=f"{path}/roles/{{role_id}}",
            action="administrator.assign-role",
            need=assign,
            handler=role_setter(collection, one_more),
            summary="Administrators: give one a role",
            answers={200: item},
            dangerous=True,
            tag="administrators",
        ),
        Endpoint(
            method="DELETE",
            path=f"{path}/roles/{{role_id}}",
            action="administrator.withdraw-role",
            need=assign,
            handler=role_setter(collection, one_less),
            summary="Administrators: take a role from one",
            answers={200: item},
            dangerous=True,
            tag="administrators",
        ),
        Endpoint(
            method="GET",
            path=f"{path}/acls",
            action="administrator.acls",
            need=acl("administrator.see.acl-list"),
            handler=acl_reader(collection),
            summary="Administrators: the permissions in effect of one",
            answers={200: acllists.Held},
            parameters=acllists.PARAMETERS,
            tag="administrators",
        ),
    ]


def password_setter(collection: Collection) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        hashed = await call.services.hasher.hash(call.body.password)

        async def work(tx: ITransaction) -> Answer:
            current: Values = await collection.locked(call, tx)
            await check_administrator(call, tx, current["id"], current["tenant_id"])
            check_not_oneself_by_token(call, current["id"])
            # A one-time secret that was there before it is over, with the time that it was good for.
            await tx.execute(
                "UPDATE administrators SET password = %s, must_change_password = %s, password_expires_at = NULL"
                " WHERE id = %s",
                (hashed, call.body.must_change, current["id"]),
            )
            after = {**current, "must_change_password": call.body.must_change}
            call.subject = collection.subject(current, after)
            return Answer(204)

        return await collection.changing(call, work)

    return handle


def role_setter(
    collection: Collection, wanted: Callable[[list[int], Call], list[int]]
) -> Callable[[Call], Awaitable[Answer]]:
    """@param wanted: the roles that an administrator shall hold, of those that are held and of the call."""

    async def handle(call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            current = await collection.locked(call, tx)
            object_id, tenant_id = current["id"], current["tenant_id"]
            await check_administrator(call, tx, object_id, tenant_id)
            held = list(await call.services.roles.held(object_id, tx))
            after = wanted(held, call)
            if len(after) > MOST:
                raise Problem("conflict", f"Nobody holds more than {MOST} roles")
            await check_givable(collection, call, tx, [each for each in after if each not in held], tenant_id)
            for role_id in held:
                if role_id not in after:
                    await call.services.roles.withdraw(object_id, role_id, tx)
            for role_id in after:
                if role_id not in held:
                    await call.services.roles.assign(object_id, role_id, tx)
            call.subject = collection.subject(current, await collection.whole(call, object_id, tx))
            document = await collection.shown(call, object_id, tx)
            return Answer(200, document, {"ETag": await collection.version(call, object_id, tx)})

        return await collection.changing(call, work)

    return handle


def acl_reader(collection: Collection) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        row = await collection.find(call, call.number())
        held = await call.services.roles.held(row["id"])
        superadmin = row["tenant_id"] == SUPERTENANT and call.principal.multitenant
        graph = await call.services.roles.graph(held)
        with_roles = call.principal.holds("administrator.see.acl-list-roles")
        return await acllists.answer(call, graph, held, lambda names: operative(names, superadmin), with_roles)

    return handle
