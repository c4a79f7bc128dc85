# -*- test-case-name: tests.admin.test_vms -*-
"""VMs: desktops, each of a user, with an OSF that says what it boots."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from attrs import evolve
from msgspec import UNSET, UnsetType

from qvd.admin import schema
from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection, etag
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Fault, Problem
from qvd.admin.resources.vmfields import VMS
from qvd.admin.resources.vmreads import reads
from qvd.admin.resources.vmverbs import FORCE_ACLS, VERBS, NoHost, Verb, orders_of
from qvd.interfaces import ITransaction
from qvd.model.declared import Field, Principal, Values
from qvd.model.ids import VMId
from qvd.model.records import VM, Desired
from qvd.model.vm import VMState

WHILE_STOPPED = ("user_id", "osf_id", "ip")
"""Fields that a run has read already: a change would not reach it, and another VM could have what it still uses."""
NAMED = (
    ("user_id", "user_name", "SELECT id FROM users WHERE tenant_id = %s AND lower(login) = lower(%s)"),
    ("osf_id", "osf_name", "SELECT id FROM osfs WHERE tenant_id = %s AND name = %s"),
)
"""What a new VM is of: by number or by name, and how the one is found with the other."""
DATES = ("expiration_soft", "expiration_hard")
FIRST_YEAR, LAST_YEAR = 2000, 9000
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class VmDates(msgspec.Struct, forbid_unknown_fields=True):
    """When a running VM expires. One that is not given is taken away."""

    soft: Moment | None = None
    hard: Moment | None = None


class VmTag(msgspec.Struct, forbid_unknown_fields=True):
    """The tag that a VM starts from."""

    tag: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class VmTagged(msgspec.Struct, forbid_unknown_fields=True):
    """Versions of the images that a VM runs, and that it would start from. Neither where the caller may not see it."""

    image_in_use: str | None
    image_assigned: str | None
    restart_needed: bool


class VMs(Collection):
    """VMs.

    @ivar verbs: what can be done with them, besides writing their fields.
    """

    resource = VMS
    verbs = VERBS
    bulk = ("block", "unblock", "start", "stop", "disconnect", "message", "update", "delete")
    """A start is an order: the VM has its node then, and waits there for its turn. A rehearsal asks for each VM whether
    it would have a place, not for all of them together."""

    def endpoints(self) -> Sequence[Endpoint]:
        return [
            evolve(each, body=creation_type()) if each.action == "vm.create" else each for each in super().endpoints()
        ]

    async def check_references(self, call: Call, tx: ITransaction, values: Values, tenant_id: int | None) -> None:
        """Checked with their tenants, where those are known."""

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        await by_names(call, tx, values)
        owner = await self.owner(call, tx, values)
        if values.setdefault("tenant_id", owner) != owner:
            raise mismatch("/tenant_id", "The user belongs to another tenant")

    async def owner(self, call: Call, tx: ITransaction, values: Values, expected: int | None = None) -> int | None:
        """The tenant of the user and the OSF that are given.

        @param expected: that of the VM, where it exists.
        @raise Problem: one of them is not there, or they belong to different ones.
        """
        for name, kind in (("user_id", "user"), ("osf_id", "osf")):
            if name not in values:
                continue
            tenant_id = await orders_of(call).tenant_of(tx, kind, values[name])
            if tenant_id is None or not call.scope.includes(tenant_id):
                fault = Fault(f"/{name}", f"there is no such {kind}", "reference-not-found")
                raise Problem("reference-not-found", f"There is no {kind} {values[name]}", [fault])
            if expected not in (None, tenant_id):
                raise mismatch(f"/{name}", f"The {kind} belongs to another tenant")
            expected = tenant_id
        return expected

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE vms SET created_by = %s WHERE id = %s", (call.principal.name, object_id))

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        await self.owner(call, tx, values, current["tenant_id"])
        vm = await orders_of(call).locked(tx, VMId(current["id"]))
        for name in WHILE_STOPPED:
            if name in values and values[name] != current[name] and not is_idle(vm):
                raise Problem("vm-running", f"{name} is changed only while the VM is stopped, and not to be started")
        if any(name in values for name in DATES):
            check_dates(vm, {name: values.get(name, current[name]) for name in DATES})

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        vm = await orders_of(call).locked(tx, VMId(current["id"]))
        if not is_idle(vm):
            said = "is to be started" if vm.state is VMState.STOPPED else f"is {vm.state.value}"
            raise Problem("vm-running", f"The VM {said}: only one that is stopped can be deleted")

    async def version(self, call: Call, object_id: int, tx: ITransaction | None = None) -> str:
        # A sign of life is no other version: a VM that runs could not be changed with If-Match.
        fields = [field for field in self.visible(call.principal) if field.name != "last_answer"]
        row = await self.find(call, object_id, fields, tx)
        return etag({field.name: row[field.name] for field in fields})

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        found = super().actions_now(principal, row)
        if row["state"] != "stopped" or row["desired_state"] != "stopped":
            found = [name for name in found if name != "delete"]
        found += [verb.name for verb in self.verbs.values() if principal.holds(*verb.acls) and verb.allowed(row)]
        if row["state"] != "stopped" and all(principal.holds(*acls) for acls in FORCE_ACLS):
            found.append("force-stop")
        if principal.holds("vm.update.block"):
            found.append("unblock" if row["blocked"] else "block")
        return found

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [
            *(self.verb(verb) for verb in self.verbs.values()),
            self.switch("block", True),
            self.switch("unblock", False),
            *self.expiration(),
            self.tag(),
            *reads(self),
        ]

    def verb(self, verb: Verb) -> Endpoint:
        """The operation of a verb."""

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await self.act(call, tx, verb, call.number(), call.body)
                call.subject = self.subject(current, await self.whole(call, current["id"], tx))
                return Answer(verb.status, await self.shown(call, current["id"], tx))

            try:
                return await self.changing(call, work)
            except NoHost as problem:
                # What was decided went with the transaction, and is what whoever asks for a reason is told.
                await self.keep_refusal(call, call.number(), problem)
                raise

        return Endpoint(
            method="POST",
            path=f"/vms/{{id}}/{verb.name}",
            action=f"vm.{verb.name}",
            need=acl(*verb.acls),
            handler=handle,
            summary=f"VMs: {verb.summary}",
            body=verb.body,
            answers={verb.status: self.item},
            tag="vms",
        )

    async def act(self, call: Call, tx: ITransaction, verb: Verb, object_id: int, body: Any) -> Values:
        """Do it to one VM; return the VM as it was.

        @param body: of the verb's type, or L{None} for its defaults.
        @raise Problem: it is not there, or its state does not allow it.
        """
        current = await self.locked(call, tx, object_id)
        call.subject = Subject("vm", object_id, current["name"], current["tenant_id"])
        vm = await orders_of(call).locked(tx, VMId(object_id))
        await verb.perform(call, tx, vm, body)
        return current

    async def keep_refusal(self, call: Call, object_id: int, problem: NoHost) -> None:
        """Have the VM's row say why no node took it."""

        async def work(tx: ITransaction) -> None:
            await orders_of(call).refused(tx, VMId(object_id), problem.decision)

        await call.services.changes.transact("refused", call.cause, work)

    def switch(self, name: str, blocked: bool) -> Endpoint:
        """C{block} and C{unblock}."""

        async def handle(call: Call) -> Answer:
            return await self.write(call, {"blocked": blocked})

        return Endpoint(
            method="POST",
            path=f"/vms/{{id}}/{name}",
            action=f"vm.{name}",
            need=acl("vm.update.block"),
            handler=handle,
            summary=f"VMs: {name} one. Who is connected stays connected",
            answers={200: self.item},
            tag="vms",
        )

    def expiration(self) -> Sequence[Endpoint]:
        """Both dates at once."""

        async def put(call: Call) -> Answer:
            return await self.write(call, {"expiration_soft": call.body.soft, "expiration_hard": call.body.hard})

        async def delete(call: Call) -> Answer:
            return await self.write(call, dict.fromkeys(DATES))

        common: Any = {"path": "/vms/{id}/expiration", "need": acl("vm.update.expiration"), "tag": "vms"}
        answers = {200: self.item}
        return [
            Endpoint(
                method="PUT",
                action="vm.expiration",
                handler=put,
                summary="VMs: say when the present run of one ends",
                body=VmDates,
                answers=answers,
                **common,
            ),
            Endpoint(
                method="DELETE",
                action="vm.no-expiration",
                handler=delete,
                summary="VMs: let one run for as long as it will",
                answers=answers,
                **common,
            ),
        ]

    def tag(self) -> Endpoint:
        """The tag, and what it means for the present run."""

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await self.locked(call, tx)
                await call.services.records.update(self.resource, current["id"], {"di_tag": call.body.tag}, tx)
                call.subject = self.subject(current, await self.whole(call, current["id"], tx))
                boots = await orders_of(call).boots(tx, VMId(current["id"]))
                needed = boots.in_use is not None and boots.in_use != boots.assigned
                if not call.principal.holds("vm.see.di-version"):
                    return Answer(200, VmTagged(None, None, needed))
                return Answer(200, VmTagged(boots.in_use, boots.assigned, needed))

            return await self.changing(call, work)

        return Endpoint(
            method="PUT",
            path="/vms/{id}/tag",
            action="vm.tag",
            need=acl("vm.update.di-tag"),
            handler=handle,
            summary="VMs: have one start from the image with that tag, from its next start on",
            body=VmTag,
            answers={200: VmTagged},
            tag="vms",
        )


def creation_type() -> Any:
    """Body of a creation: the user and the OSF by their ids, or by their names."""
    base = schema.creation(VMS)
    either = {name for pair in NAMED for name in pair[:2]}
    fields = [*members(base, either)]
    for number, name, _ in NAMED:
        fields += [(number, schema.annotation(field_of(number)) | UnsetType, UNSET)]
        fields += [(name, Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | UnsetType, UNSET)]
    return schema.struct("VmCreation", fields)


def members(struct: Any, but: Container[str]) -> Sequence[tuple[Any, ...]]:
    """The members of a type, for another one; C{but} those of these names."""
    return [
        (each.name, each.type, each.default) if each.default is not msgspec.NODEFAULT else (each.name, each.type)
        for each in msgspec.structs.fields(struct)
        if each.name not in but
    ]


def field_of(name: str) -> Field:
    """A field that VMs have."""
    field = VMS.get(name)
    assert field is not None
    return field


async def by_names(call: Call, tx: ITransaction, values: dict[str, Any]) -> None:
    """Find the ids of what was named.

    @raise Problem: it was not said which is meant, or there is none of that name in the tenant.
    """
    tenant_id = values.get("tenant_id") if call.principal.superadmin else call.principal.tenant_id
    for number, name, sql in NAMED:
        given = values.pop(name, None)
        if given is None and number not in values:
            said = f"Say which is meant: {number} or {name}"
            raise Problem("missing-attribute", said, [Fault(f"/{number}", said, "missing-attribute")])
        if given is None:
            continue
        if number in values:
            raise Problem("invalid-value", f"Say {number} or {name}, not both", [Fault(f"/{name}", "is one too many")])
        if tenant_id is None and "user_id" in values:
            tenant_id = await orders_of(call).tenant_of(tx, "user", values["user_id"])
        if tenant_id is None:
            said = "Say whose it is: tenant_id. There may be others of that name"
            raise Problem("missing-attribute", said, [Fault("/tenant_id", said, "missing-attribute")])
        row = None if "\0" in given else await tx.fetch_one(sql, (tenant_id, given))
        if row is None:
            kind = number.removesuffix("_id")
            fault = Fault(f"/{name}", f"there is no such {kind}", "reference-not-found")
            raise Problem("reference-not-found", f"There is no {kind} of that name", [fault])
        values[number] = row["id"]


def mismatch(pointer: str, sentence: str) -> Problem:
    return Problem("tenant-mismatch", sentence, [Fault(pointer, "belongs to another tenant", "tenant-mismatch")])


def is_idle(vm: VM) -> bool:
    """It is stopped, and nobody wants it to run."""
    return vm.state is VMState.STOPPED and vm.host_id is None and vm.desired is Desired.STOPPED


def check_dates(vm: VM, dates: Mapping[str, datetime | None]) -> None:
    """@raise Problem: there is no run that they could end, or they are in the wrong order."""
    for name, date in dates.items():
        # PostgreSQL's years go further than those that can be read again, in any time zone.
        if date is not None and not FIRST_YEAR <= date.year <= LAST_YEAR:
            said = f"is not between the years {FIRST_YEAR} and {LAST_YEAR}"
            raise Problem("invalid-value", f"{name} {said}", [Fault(f"/{name}", said)])
    soft, hard = (dates[name] for name in DATES)
    if vm.state is VMState.STOPPED and (soft or hard):
        raise Problem("invalid-vm-state", "The VM is stopped: its dates are those of one run", code=5120)
    if soft and hard and soft > hard:
        fault = Fault("/expiration_soft", "comes after expiration_hard", "invalid-expiration")
        raise Problem("invalid-expiration", "The soft date comes after the hard one", [fault])
