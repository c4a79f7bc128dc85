# -*- test-case-name: tests.admin.test_administrators -*-
"""Administrators: who may call this API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint
from qvd.admin.grants import check_administrator
from qvd.admin.problems import Problem
from qvd.admin.resources import holdings
from qvd.admin.resources.common import (
    LANGUAGES,
    creation_fields,
    description_field,
    id_field,
    tenant_fields,
    tenant_join,
)
from qvd.admin.resources.users import NAME
from qvd.interfaces import ITransaction
from qvd.model.declared import Creates, Field, Kind, Resource, Values

HELD_ROLES = """coalesce((SELECT json_agg(json_build_object('id', r.id, 'name', r.name) ORDER BY r.id)
    FROM administrator_roles h JOIN roles r ON r.id = h.role_id
    WHERE h.administrator_id = a.id AND (h.expires_at IS NULL OR h.expires_at > now())), '[]')"""

ADMINISTRATORS = Resource(
    name="administrator",
    collection="administrators",
    title="Administrators",
    table="administrators",
    alias="a",
    source="administrators a",
    keys={"administrators": "id"},
    joins=tenant_join("a"),
    tenant="a.tenant_id",
    columns=("name", "description", "blocked", "tenant_name", "created_at"),
    read=("administrator.see-main.",),
    create_acl="administrator.create.",
    delete_acl="administrator.delete.",
    if_match=True,
    fields=(
        id_field("a"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="What the administrator logs in as; upper and lower case are the same",
            sql="a.name",
            column="administrators.name",
            creates=Creates.MUST,
            update_acl="administrator.update.name",
            least=1,
            most=64,
            pattern=NAME,
        ),
        Field(
            name="password",
            kind=Kind.TEXT,
            text="Never read; changed by an operation of its own",
            column="administrators.password",
            creates=Creates.MUST,
            least=holdings.SHORTEST_PASSWORD,
            most=holdings.LONGEST_PASSWORD,
            filters=False,
            sorts=False,
            secret=True,
        ),
        description_field("administrator", "administrators", "a"),
        Field(
            name="blocked",
            kind=Kind.BOOLEAN,
            text="Whether the administrator may not log in",
            sql="a.blocked",
            column="administrators.blocked",
            creates=Creates.MAY,
            create_acl="administrator.update.block",
            update_acl="administrator.update.block",
        ),
        Field(
            name="language",
            kind=Kind.TEXT,
            text="Of the administrator's panel",
            sql="a.language",
            column="administrators.language",
            see=("administrator.see.language",),
            creates=Creates.MAY,
            create_acl="administrator.create.language",
            update_acl="administrator.update.language",
            choices=LANGUAGES,
        ),
        Field(
            name="page_size",
            kind=Kind.INTEGER,
            text="Objects of a page; null: as the tenant has it",
            sql="a.page_size",
            column="administrators.page_size",
            see=("administrator.see.language",),
            creates=Creates.MAY,
            create_acl="administrator.create.language",
            update_acl="administrator.update.language",
            nullable=True,
            least=1,
            most=500,
        ),
        Field(
            name="roles",
            kind=Kind.LIST,
            text="Roles that the administrator holds: numbers and names. At the creation, numbers",
            sql=HELD_ROLES,
            see=("administrator.see.roles",),
            creates=Creates.MAY,
            create_acl="administrator.update.assign-role",
            filters=False,
            sorts=False,
        ),
        *creation_fields("administrator", "a"),
        *tenant_fields("a"),
    ),
)


class Administrators(Collection):
    """Administrators. Whoever changes one holds all that this one may do."""

    resource = ADMINISTRATORS

    async def prepare(self, call: Call, values: dict[str, Any]) -> None:
        if "name" in values:
            values["name"] = values["name"].strip()
        if "roles" in values:
            values["roles"] = holdings.numbers(values["roles"], "/roles")
        if "password" in values:
            values["password"] = await call.services.hasher.hash(values["password"])

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        await call.services.roles.lock(tx)
        assert tenant_id is not None
        await holdings.check_givable(self, call, tx, values.get("roles", ()), tenant_id)

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE administrators SET created_by = %s WHERE id = %s", (call.principal.name, object_id))
        for role_id in values.get("roles", ()):
            await call.services.roles.assign(object_id, role_id, tx)

    async def locked(self, call: Call, tx: ITransaction, object_id: int | None = None) -> Values:
        await call.services.roles.lock(tx)
        return await super().locked(call, tx, object_id)

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        if values.get("blocked") and current["id"] == call.principal.administrator_id:
            raise Problem("own-account", "You cannot block the account that you use")
        await check_administrator(call, tx, current["id"], current["tenant_id"])

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        if current["id"] == call.principal.administrator_id:
            raise Problem("own-account", "You cannot delete the account that you use")
        await check_administrator(call, tx, current["id"], current["tenant_id"])

    def more_endpoints(self) -> Sequence[Endpoint]:
        return holdings.endpoints(self)
