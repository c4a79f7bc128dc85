# -*- test-case-name: tests.admin.test_roles -*-
"""Roles: what administrators may do, given together. Those of the common tenant are seen by everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Parameter
from qvd.admin.grants import check_grant, check_roles, expand
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.resources import roleacls, roleclones
from qvd.admin.resources.acllists import chosen
from qvd.admin.resources.common import creation_fields, description_field, id_field, tenant_fields, tenant_join
from qvd.admin.resources.holdings import numbers
from qvd.interfaces import ITransaction
from qvd.model.acls import exists_for
from qvd.model.declared import Creates, Field, Kind, Principal, Resource, Scope, Values
from qvd.model.roles import Graph, Role, RoleCycle, each, effective, give, inherit, take

LISTED = "coalesce((SELECT json_agg(acl ORDER BY acl) FROM role_acls o WHERE o.role_id = r.id AND {}), '[]')"
OWN_ACLS = f"json_build_object('positive', {LISTED.format('positive')}, 'negative', {LISTED.format('NOT positive')})"
PARENTS = """coalesce((SELECT json_agg(json_build_object('id', p.id, 'name', p.name) ORDER BY p.id)
    FROM role_parents i JOIN roles p ON p.id = i.parent_id WHERE i.role_id = r.id), '[]')"""
TEMPLATES = Parameter(
    "templates",
    {"type": "string", "enum": ["true", "false"]},
    "Only templates, or only roles that are meant for people",
)
SIGNS = ("positive", "negative")

ROLES = Resource(
    name="role",
    collection="roles",
    title="Roles",
    table="roles",
    alias="r",
    source="roles r",
    keys={"roles": "id"},
    joins=tenant_join("r"),
    tenant="r.tenant_id",
    shared=True,
    columns=("name", "description", "internal", "fixed", "tenant_name"),
    read=("role.see-main.",),
    create_acl="role.create.",
    delete_acl="role.delete.",
    if_match=True,
    fields=(
        id_field("r"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="What the role is called; upper and lower case are the same",
            sql="r.name",
            column="roles.name",
            creates=Creates.MUST,
            update_acl="role.update.name",
            least=1,
            most=64,
            pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$",
        ),
        description_field("role", "roles", "r"),
        Field(
            name="internal",
            kind=Kind.BOOLEAN,
            text="Whether it is a template that other roles are made of, not meant for people",
            sql="r.internal",
            column="roles.internal",
            creates=Creates.MAY,
        ),
        Field(
            name="fixed",
            kind=Kind.BOOLEAN,
            text="Whether it comes with the product and stays as it is",
            sql="r.fixed",
        ),
        Field(
            name="acls",
            kind=Kind.OBJECT,
            text="Permissions of its own (positive) and exclusions of inherited ones (negative): lists of names",
            sql=OWN_ACLS,
            see=("role.see.acl-list",),
            creates=Creates.MAY,
            create_acl="role.update.assign-acl",
            filters=False,
            sorts=False,
        ),
        Field(
            name="roles",
            kind=Kind.LIST,
            text="Roles that it inherits: numbers and names. At the creation, numbers",
            sql=PARENTS,
            see=("role.see.acl-list", "role.see.acl-list-roles", "role.see.inherited-roles"),
            creates=Creates.MAY,
            create_acl="role.update.assign-role",
            filters=False,
            sorts=False,
        ),
        *creation_fields("role", "r"),
        *tenant_fields("r"),
    ),
)


class Roles(Collection):
    """Roles. Whoever changes one holds all that it gives, before and after."""

    resource = ROLES

    async def prepare(self, call: Call, values: dict[str, Any]) -> None:
        if "name" in values:
            values["name"] = values["name"].strip()
        if "roles" in values:
            values["roles"] = numbers(values["roles"], "/roles")
        if "acls" in values:
            values["acls"] = own_acls(call.principal, values["acls"])

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        await call.services.roles.lock(tx)
        assert tenant_id is not None
        for role_id in values.get("roles", ()):
            if await call.services.records.find(self.resource, (), Scope(tenant_id), role_id, tx) is None:
                fault = Fault("/roles", f"there is no role {role_id}", "reference-not-found")
                raise Problem("reference-not-found", f"There is no role {role_id}", [fault])

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        row = await tx.fetch_one(
            "UPDATE roles SET created_by = %s WHERE id = %s RETURNING tenant_id", (call.principal.name, object_id)
        )
        assert row is not None
        acls = values.get("acls", {})

        def filled(graph: Graph, role: Role) -> Role:
            role = each(inherit, graph, role, values.get("roles", ()))
            return each(take, graph, each(give, graph, role, acls.get("positive", ())), acls.get("negative", ()))

        await self.rewrite(call, tx, object_id, row["tenant_id"], filled, values.get("roles", ()))

    async def rewrite(
        self,
        call: Call,
        tx: ITransaction,
        object_id: int,
        tenant_id: int,
        change: Callable[[Graph, Role], Role],
        more: Sequence[int] = (),
    ) -> None:
        """Change what a role gives.

        @param more: further roles that C{change} looks at.
        @raise Problem: it gives, or would give, more than the caller holds; or it would inherit itself.
        """
        graph = await call.services.roles.graph([object_id, *more], tx)
        before = graph[object_id]
        check_grant(call.principal, effective(graph, [object_id]), tenant_id)
        try:
            after = change(graph, before)
        except RoleCycle:
            raise Problem("role-cycle", "The role would inherit itself") from None
        check_grant(call.principal, effective({**graph, object_id: after}, [object_id]), tenant_id)
        await call.services.roles.write(before, after, tenant_id, tx)

    async def locked(self, call: Call, tx: ITransaction, object_id: int | None = None) -> Values:
        await call.services.roles.lock(tx)
        return await super().locked(call, tx, object_id)

    def check_owner(self, principal: Principal, current: Values) -> None:
        if current["fixed"]:
            raise Problem("fixed-role", "It comes with the product: make a clone of it, and change that")
        super().check_owner(principal, current)

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        await check_roles(call, tx, [current["id"]], current["tenant_id"])

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        await check_roles(call, tx, [current["id"]], current["tenant_id"])
        row = await tx.fetch_one(
            "SELECT (SELECT count(*) FROM administrator_roles WHERE role_id = %(id)s) AS administrator,"
            " (SELECT count(*) FROM role_parents WHERE parent_id = %(id)s) AS role",
            {"id": current["id"]},
        )
        dependents = [{"kind": kind, "count": count} for kind, count in (row or {}).items() if count]
        if dependents:
            raise Problem("has-dependents", "Administrators hold it, or roles inherit it", dependents=dependents)

    async def changed_role(
        self,
        call: Call,
        tx: ITransaction,
        change: Callable[[Graph, Role], Role],
        parent: int | None = None,
    ) -> Answer:
        """Carry out an operation that changes what a role gives.

        @param parent: a role that it shall inherit.
        """
        current = await self.locked(call, tx)
        tenant_id, more = current["tenant_id"], [] if parent is None else [parent]
        for role_id in more:
            if await call.services.records.find(self.resource, (), Scope(tenant_id), role_id, tx) is None:
                raise not_found("role")
        await self.rewrite(call, tx, current["id"], tenant_id, change, more)
        call.subject = self.subject(current, await self.whole(call, current["id"], tx))
        document = await self.shown(call, current["id"], tx)
        return Answer(200, document, {"ETag": await self.version(call, current["id"], tx)})

    def document(self, principal: Principal, row: Values, wanted: Any) -> dict[str, Any]:
        return without_hidden(principal, super().document(principal, row, wanted))

    async def shown(self, call: Call, object_id: int, tx: ITransaction) -> dict[str, Any]:
        return without_hidden(call.principal, await super().shown(call, object_id, tx))

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        try:
            self.check_owner(principal, row)
        except Problem:
            return []
        return super().actions_now(principal, row)

    async def read_page(self, call: Call) -> Answer:
        if "templates" in call.query:
            wanted = chosen(call, TEMPLATES.name, ("true", "false"), "")
            others = {name: values for name, values in call.query.items() if name != TEMPLATES.name}
            call.query = {**others, "internal": [wanted]}
        return await super().read_page(call)

    def endpoints(self) -> Sequence[Endpoint]:
        first, *others = super().endpoints()
        return [evolve(first, parameters=(*first.parameters, TEMPLATES)), *others]

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [*roleclones.endpoints(self), *roleacls.endpoints(self)]


def own_acls(principal: Principal, given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of permissions by sign, of a creation's body.

    @raise Problem: it is none of that form, or names what there is not.
    """
    wrong = [Fault(f"/acls/{sign}", "there is positive and negative only", "unknown-attribute") for sign in given]
    if given.keys() - set(SIGNS):
        raise Problem("unknown-attribute", "acls has the members positive and negative", wrong)
    for sign, names in given.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > 500:
            raise Problem(
                "invalid-value", f"acls.{sign} is a list of names", [Fault(f"/acls/{sign}", "is no such list")]
            )
    return {sign: expand(principal, given.get(sign, ()), f"/acls/{sign}") for sign in SIGNS}


def without_hidden(principal: Principal, document: dict[str, Any]) -> dict[str, Any]:
    """Without names of permissions that do not exist for the caller."""
    acls = document.get("acls")
    if acls is None:
        return document
    seen = {sign: [name for name in names if exists_for(name, principal.superadmin)] for sign, names in acls.items()}
    return {**document, "acls": seen}
