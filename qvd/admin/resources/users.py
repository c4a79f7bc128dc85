# -*- test-case-name: tests.admin.test_users -*-
"""Users: who has desktops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.problems import Problem
from qvd.admin.resources.common import (
    blocked_field,
    creation_fields,
    description_field,
    id_field,
    language_field,
    properties_field,
    tenant_fields,
    tenant_join,
)
from qvd.admin.resources.newvms import new_vm_of
from qvd.admin.resources.vmlists import vms_of
from qvd.admin.schema import SECRET
from qvd.interfaces import ITransaction
from qvd.model.declared import Creates, Field, Kind, Resource, Values

NAME = r"^[^\s@#\x00-\x1f][^\x00-\x1f@#]*$"
"""No separator between user and tenant, nothing that cannot be typed."""
LONGEST_PASSWORD = 1024

USERS = Resource(
    name="user",
    collection="users",
    title="Users",
    table="users",
    alias="u",
    source="users u",
    keys={"users": "id"},
    joins=tenant_join("u"),
    tenant="u.tenant_id",
    columns=("name", "description", "blocked", "number_of_vms", "tenant_name", "created_at"),
    read=("user.see-main.", "tenant.see.user-list"),
    create_acl="user.create.",
    delete_acl="user.delete.",
    fields=(
        id_field("u"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="What the user logs in as; upper and lower case are the same",
            sql="u.login",
            column="users.login",
            creates=Creates.MUST,
            update_acl="user.update.name",
            least=1,
            most=64,
            pattern=NAME,
        ),
        Field(
            name="password",
            kind=Kind.TEXT,
            text="For logins by password; never read",
            column="users.password",
            creates=Creates.MAY,
            least=1,
            most=LONGEST_PASSWORD,
            filters=False,
            sorts=False,
            secret=True,
        ),
        description_field("user", "users", "u"),
        blocked_field("user", "users", "u", "Whether the user may not log in"),
        language_field("user", "users", "u", "Of the user's own pages"),
        Field(
            name="number_of_vms",
            kind=Kind.INTEGER,
            text="VMs that the user has",
            sql="(SELECT count(*) FROM vms c WHERE c.user_id = u.id)",
            see=("user.see.vms-info",),
            filters=False,
            sorts=False,
        ),
        properties_field("user"),
        *creation_fields("user", "u"),
        *tenant_fields("u"),
    ),
)


CASCADE = Parameter("cascade", {"type": "string", "enum": ["vms"]}, "Whether the user's VMs go as well: vms")


class UserPassword(msgspec.Struct, forbid_unknown_fields=True):
    """Body that sets a user's password."""

    password: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_PASSWORD, extra_json_schema=SECRET)]


class Users(Collection):
    """Users."""

    resource = USERS
    bulk = ("block", "unblock", "update", "delete", "create-vm")

    def endpoints(self) -> Sequence[Endpoint]:
        return [
            evolve(each, parameters=(CASCADE,)) if each.action == "user.delete" else each
            for each in super().endpoints()
        ]

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        cascade = call.one("cascade")
        if cascade not in ("", "vms"):
            raise Problem("malformed-request", "cascade is vms, or absent")
        vms = await tx.fetch(
            "SELECT v.id, v.name, r.vm_state FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id"
            " WHERE v.user_id = %s ORDER BY v.id FOR UPDATE",
            (current["id"],),
        )
        if not vms:
            return
        if not cascade:
            found = [{"kind": "vm", "count": len(vms)}]
            raise Problem("has-dependents", f"The user has {len(vms)} VMs: see cascade", dependents=found)
        if not call.principal.holds("vm.delete."):
            raise Problem("forbidden", "You need the permission vm.delete. for the VMs", acl="vm.delete.")
        running = [vm["name"] for vm in vms if vm["vm_state"] != "stopped"]
        if running:
            raise Problem("vm-running", f"Stop these first: {', '.join(running[:10])}")
        await tx.execute("DELETE FROM vms WHERE id = ANY(%s)", ([vm["id"] for vm in vms],))
        # The row of the audit trail is about the user: it says which VMs went as well.
        assert isinstance(current, dict)
        current["vms"] = [{"id": vm["id"], "name": vm["name"]} for vm in vms]

    async def prepare(self, call: Call, values: dict[str, Any]) -> None:
        if "name" in values:
            values["name"] = values["name"].strip()
        if values.get("password"):
            values["password"] = await call.services.hasher.hash(values["password"])

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE users SET created_by = %s WHERE id = %s", (call.principal.name, object_id))

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [
            self.switch("block", True),
            self.switch("unblock", False),
            Endpoint(
                method="PUT",
                path="/users/{id}/password",
                action="user.password",
                need=acl("user.update.password"),
                handler=self.set_password,
                summary="Users: set the password of one",
                body=UserPassword,
                tag="users",
            ),
            vms_of(self, "user_id"),
            new_vm_of(self),
        ]

    async def set_password(self, call: Call) -> Answer:
        hashed = await call.services.hasher.hash(call.body.password)

        async def work(tx: ITransaction) -> Answer:
            current: Values = await self.locked(call, tx)
            await call.services.records.update(self.resource, current["id"], {"password": hashed}, tx)
            # The trail has that it was set: nobody reads a password, nor what was made of it.
            call.subject = self.subject(current, current)
            return Answer(204)

        return await self.changing(call, work)

    def switch(self, verb: str, blocked: bool) -> Endpoint:
        """C{block} and C{unblock}."""

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current: Values = await self.locked(call, tx)
                await call.services.records.update(self.resource, current["id"], {"blocked": blocked}, tx)
                call.subject = self.subject(current, await self.whole(call, current["id"], tx))
                return Answer(200, await self.shown(call, current["id"], tx))

            return await self.changing(call, work)

        return Endpoint(
            method="POST",
            path=f"/users/{{id}}/{verb}",
            action=f"user.{verb}",
            need=acl("user.update.block"),
            handler=handle,
            summary=f"Users: {verb} one",
            answers={200: self.item},
            tag="users",
        )
