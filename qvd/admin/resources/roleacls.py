# -*- test-case-name: tests.admin.test_roles -*-
"""What roles give: permissions, exclusions, inheritance; and what would come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint, Need, Parameter, acl
from qvd.admin.grants import expand, require
from qvd.admin.problems import Problem, not_found
from qvd.admin.resources import acllists
from qvd.admin.resources.holdings import MOST, Number
from qvd.interfaces import ITransaction
from qvd.model.acls import CATALOGUE, exists_for
from qvd.model.roles import Graph, Role, RoleCycle, above, disinherit, each, give, inherit, take
from qvd.model.shipped_roles import CAPABILITIES, matrix

if TYPE_CHECKING:
    from qvd.admin.resources.roles import Roles

Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Patterns = Annotated[list[Pattern], msgspec.Meta(max_length=500)]
VIEWS = ("own", "effective", "tree")
PREVIEW = 0
"""Stands for a role that there is not yet."""


class AclChange(msgspec.Struct, forbid_unknown_fields=True):
    """Body that gives and takes permissions, in this order. C{*} in a name is any text."""

    grant: Patterns = []
    revoke: Patterns = []


class Preview(AclChange, forbid_unknown_fields=True):
    """Body that asks what a role would give."""

    parents: Annotated[list[Number], msgspec.Meta(max_length=MOST)] = []


class Node(msgspec.Struct):
    """A role of a tree: what it has of its own, and the numbers of those that it inherits."""

    id: int
    name: str
    positive: list[str]
    negative: list[str]
    parents: list[int]


class Tree(msgspec.Struct):
    """A role and all that it inherits, each once and after those that it inherits."""

    nodes: list[Node]


EITHER = {"type": "object"}
"""L{acllists.Held}, or L{Tree}, as C{view} says."""


class Matrix(msgspec.Struct):
    """The templates: for each scope, by capability, the number of the role that is the two."""

    capabilities: list[str]
    scopes: dict[str, dict[str, int]]


class Holder(msgspec.Struct):
    """An administrator, told."""

    id: int
    name: str


class Holders(msgspec.Struct):
    """Administrators who hold a role; C{items} are the first 500 of C{total}."""

    items: list[Holder]
    total: int


def endpoints(roles: Roles) -> Sequence[Endpoint]:
    """Operations on what roles give."""
    item, path = roles.item, "/roles/{id}"
    assign_role, assign_acl = acl("role.update.assign-role"), acl("role.update.assign-acl")
    see = acl("role.see.acl-list")

    def changing(method: str, below: str, action: str, need: Need, handler: Any, summary: str, body: Any) -> Endpoint:
        return Endpoint(
            method=method,
            path=f"{path}/{below}",
            action=f"role.{action}",
            need=need,
            handler=handler,
            summary=f"Roles: {summary}",
            body=body,
            answers={200: item},
            tag="roles",
        )

    def reading(path: str, action: str, need: Need, handler: Any, summary: str, answer: Any, *more: Any) -> Endpoint:
        return Endpoint(
            method="GET",
            path=path,
            action=action,
            need=need,
            handler=handler,
            summary=summary,
            answers={200: answer},
            parameters=more,
            tag="roles",
        )

    view = Parameter("view", {"type": "string", "enum": list(VIEWS)}, "Its own, all in effect, or where it comes from")
    return [
        changing(
            "PUT", "parents/{role_id}", "inherit", assign_role, inheriting(roles), "let one inherit another", None
        ),
        changing("DELETE", "parents/{role_id}", "disinherit", assign_role, leaving(roles), "end an inheritance", None),
        changing(
            "PUT", "acls/{name}", "grant-acl", assign_acl, one_acl(roles, give), "let one give a permission", None
        ),
        changing("DELETE", "acls/{name}", "revoke-acl", assign_acl, one_acl(roles, take), "let one not give it", None),
        changing("PATCH", "acls", "change-acls", assign_acl, many_acls(roles), "give and take permissions", AclChange),
        reading(
            f"{path}/acls",
            "role.acls",
            see,
            acl_reader(roles),
            "Roles: what one gives",
            EITHER,
            view,
            *acllists.PARAMETERS,
        ),
        reading(
            f"{path}/administrators",
            "role.administrators",
            acl("administrator.see-main."),
            holders(roles),
            "Roles: who holds one",
            Holders,
        ),
        reading("/role-matrix", "role.matrix", acl("role.see-main."), read_matrix, "Roles: the templates", Matrix),
        reading(
            "/acls",
            "acl.list",
            acl("role.see.acl-list", "administrator.see.acl-list"),
            acllists.read_catalogue,
            "Permissions: all that there are",
            acllists.Known,
            acllists.PATTERN,
        ),
        Endpoint(
            method="POST",
            path="/roles/preview",
            action="role.preview",
            need=see,
            handler=previewer(roles),
            summary="Roles: what one would give",
            body=Preview,
            answers={200: acllists.Held},
            audited=False,
            tag="roles",
        ),
    ]


def inheriting(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        parent = call.number("role_id")

        def change(graph: Graph, role: Role) -> Role:
            if parent in role.parents:
                raise Problem("already-assigned", "It inherits that role already")
            if len(role.parents) >= MOST:
                raise Problem("conflict", f"No role inherits more than {MOST}")
            return inherit(graph, role, parent)

        async def work(tx: ITransaction) -> Answer:
            return await roles.changed_role(call, tx, change, parent)

        return await roles.changing(call, work)

    return handle


def leaving(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        parent = call.number("role_id")

        def change(graph: Graph, role: Role) -> Role:
            if parent not in role.parents:
                raise not_found("role")
            return disinherit(graph, role, parent)

        async def work(tx: ITransaction) -> Answer:
            return await roles.changed_role(call, tx, change)

        return await roles.changing(call, work)

    return handle


def one_acl(roles: Roles, how: Callable[[Graph, Role, str], Role]) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        name = call.path["name"]
        if name not in CATALOGUE or not exists_for(name, call.principal.superadmin):
            raise not_found("permission")

        async def work(tx: ITransaction) -> Answer:
            return await roles.changed_role(call, tx, lambda graph, role: how(graph, role, name))

        return await roles.changing(call, work)

    return handle


def many_acls(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        granted = expand(call.principal, call.body.grant, "/grant")
        revoked = expand(call.principal, call.body.revoke, "/revoke")

        def change(graph: Graph, role: Role) -> Role:
            return each(take, graph, each(give, graph, role, granted), revoked)

        async def work(tx: ITransaction) -> Answer:
            return await roles.changed_role(call, tx, change)

        return await roles.changing(call, work)

    return handle


def acl_reader(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        view = acllists.chosen(call, "view", VIEWS, "own")
        row = await roles.find(call, call.number())
        role_id, may_see_roles = row["id"], call.principal.holds("role.see.acl-list-roles")
        graph: Graph = await call.services.roles.graph([role_id])
        if view == "tree":
            require(call.principal, "role.see.acl-list-roles")
            return await tree(call, graph, role_id)
        if view == "own":
            graph = {role_id: Role(role_id, graph[role_id].positives)}
        return await acllists.answer(call, graph, [role_id], frozenset, may_see_roles)

    return handle


async def tree(call: Call, graph: Graph, role_id: int) -> Answer:
    """Each role once: as a tree in the true sense, it could be larger than any answer."""
    order = above(graph, [role_id])
    names = await call.services.roles.names(order)
    nodes = [
        {
            "id": known,
            "name": names.get(known, ""),
            "positive": acllists.shown(call, graph[known].positives),
            "negative": acllists.shown(call, graph[known].negatives),
            "parents": sorted(graph[known].parents),
        }
        for known in order
    ]
    return Answer(200, {"nodes": nodes})


def holders(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        row = await roles.find(call, call.number())
        rows = await call.services.database.fetch(
            "SELECT a.id, a.name, count(*) OVER () AS total FROM administrator_roles h"
            " JOIN administrators a ON a.id = h.administrator_id"
            " WHERE h.role_id = %(role)s AND (h.expires_at IS NULL OR h.expires_at > now())"
            " AND (%(tenant)s::integer IS NULL OR a.tenant_id = %(tenant)s) ORDER BY a.id LIMIT 500",
            {"role": row["id"], "tenant": call.scope.tenant_id},
        )
        items = [{"id": each["id"], "name": each["name"]} for each in rows]
        return Answer(200, {"items": items, "total": rows[0]["total"] if rows else 0})

    return handle


def previewer(roles: Roles) -> Callable[[Call], Awaitable[Answer]]:
    async def handle(call: Call) -> Answer:
        granted = expand(call.principal, call.body.grant, "/grant")
        revoked = expand(call.principal, call.body.revoke, "/revoke")
        parents = list(dict.fromkeys(call.body.parents))
        for role_id in parents:
            if await call.services.records.find(roles.resource, (), call.scope, role_id) is None:
                raise Problem("reference-not-found", f"There is no role {role_id}")
        graph: Graph = await call.services.roles.graph(parents)
        role = Role(PREVIEW)
        try:
            role = each(inherit, {**graph, PREVIEW: role}, role, parents)
        except RoleCycle:
            raise Problem("role-cycle", "The role would inherit itself") from None
        role = each(take, graph, each(give, graph, role, granted), revoked)
        with_roles = call.principal.holds("role.see.acl-list-roles")
        return await acllists.answer(call, {**graph, PREVIEW: role}, [PREVIEW], frozenset, with_roles)

    return handle


async def read_matrix(call: Call) -> Answer:
    """Scopes that do not exist for the caller are left out."""
    scopes = {name: cells for name, cells in matrix().items() if name != "Tenants" or call.principal.superadmin}
    return Answer(200, {"capabilities": list(CAPABILITIES), "scopes": scopes})
