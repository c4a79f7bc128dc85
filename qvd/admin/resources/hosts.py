# -*- test-case-name: tests.admin.test_hosts -*-
"""
Nodes. They belong to no tenant, and what happens to one happens to all tenants that have VMs there: where there are
several tenants, administrators over all of them see and command nodes, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from attrs import evolve
from msgspec import Meta

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.jobs.kinds import ACCEPTED, ask_for
from qvd.admin.problems import Problem
from qvd.admin.resources.common import blocked_field, creation_fields, description_field, id_field, properties_field
from qvd.admin.resources.vmlists import vms_of
from qvd.interfaces import ITransaction
from qvd.model.declared import Creates, Field, Kind, Principal, Resource, Values
from qvd.model.errors import Conflict, InvalidRequest

STATES = ("stopped", "starting", "running", "stopping", "lost")
GONE = ("stopped", "lost")
NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
BOUND = "(SELECT count(*) FROM vm_runtimes b WHERE b.host_id = h.id)"
CAPACITY, STATE, VMS = ("host.see.capacity",), ("host.see.state",), ("host.see.vms-info",)


def told(name: str, kind: Kind, text: str, sql: str, see: tuple[str, ...], **more: Any) -> Field:
    """A field that the node itself writes."""
    return Field(name=name, kind=kind, text=text, sql=sql, see=see, **more)


def counted(name: str, text: str, sql: str) -> Field:
    return told(name, Kind.INTEGER, text, sql, VMS, filters=False, sorts=False)


SUMMARIES = {
    "block": "block one, so that no VM is placed on it",
    "unblock": "unblock one, so that VMs are placed on it",
    "drain": "have one take no VMs any more, and give up those that it has",
    "undrain": "have one take VMs again",
    "stop-vms": "stop all VMs on one",
    "declare-dead": "say that one is dead for good, so that its VMs can start elsewhere",
    "decommission": "take one out of the farm for good",
}
"""Of operations on one node."""

HOSTS = Resource(
    name="host",
    collection="hosts",
    title="Nodes",
    table="hosts",
    alias="h",
    source="hosts h JOIN host_runtimes r ON r.host_id = h.id",
    keys={"hosts": "id", "host_runtimes": "host_id"},
    columns=("name", "address", "state", "blocked", "drain", "number_of_vms_running", "memory", "free_memory"),
    read=("host.see-main.",),
    create_acl="host.create.",
    delete_acl="host.delete.",
    superadmin=True,
    superadmin_reads=True,
    fields=(
        id_field("h"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="The same as nodename in the node's own file",
            sql="h.name",
            column="hosts.name",
            creates=Creates.MUST,
            update_acl="host.update.name",
            least=1,
            most=253,
            pattern=NAME,
        ),
        description_field("host", "hosts", "h"),
        Field(
            name="address",
            kind=Kind.TEXT,
            text="Where other nodes reach it",
            sql="h.address",
            column="hosts.address",
            see=("host.see.address",),
            creates=Creates.MUST,
            update_acl="host.update.address",
            least=1,
            most=253,
            pattern=r"^[A-Za-z0-9.:_-]+$",
        ),
        blocked_field("host", "host_runtimes", "r", "Whether it takes neither clients nor VMs"),
        told("state", Kind.TEXT, "How it is", "r.state", STATE, choices=STATES),
        told(
            "drain",
            Kind.TEXT,
            "It gets no new VMs; those that are there stop at once, or when they like; null: it is not being drained",
            "r.drain",
            STATE,
            choices=("wait", "stop"),
            nullable=True,
        ),
        told("decommissioned", Kind.BOOLEAN, "It is a node no more", "(r.decommissioned_at IS NOT NULL)", STATE),
        told("heartbeat_at", Kind.TIME, "When it was heard of last", "r.ok_ts", STATE, nullable=True),
        told("lease_until", Kind.TIME, "Until when its VMs are its own", "r.lease_until", STATE, nullable=True),
        told(
            "lease_age",
            Kind.NUMBER,
            "Seconds since it was heard of",
            "extract(epoch FROM now() - r.ok_ts)::float8",
            STATE,
            nullable=True,
            filters=False,
        ),
        told("hypervisor", Kind.TEXT, "Driver of its VMs", "r.hypervisor", STATE, nullable=True),
        told("memory", Kind.INTEGER, "Bytes that it has for VMs", "r.usable_ram", CAPACITY),
        told(
            "free_memory",
            Kind.INTEGER,
            "Bytes of them that no VM holds",
            "(r.usable_ram - coalesce((SELECT sum(b.reserved_ram) FROM vm_runtimes b WHERE b.host_id = h.id), 0))"
            "::bigint",
            CAPACITY,
            filters=False,
        ),
        told(
            "available_memory", Kind.INTEGER, "Bytes that are free, whoever uses the rest", "r.available_ram", CAPACITY
        ),
        told("cores", Kind.NUMBER, "Processors that it has for VMs", "r.usable_cpu::float8", CAPACITY),
        told("idle_cores", Kind.NUMBER, "Those of them that have nothing to do", "r.idle_cpu::float8", CAPACITY),
        told("cpu_pressure", Kind.NUMBER, "Per cent of time", "r.cpu_pressure::float8", CAPACITY, nullable=True),
        told("memory_pressure", Kind.NUMBER, "Per cent of time", "r.memory_pressure::float8", CAPACITY, nullable=True),
        counted("number_of_vms", "VMs that it has", BOUND),
        counted("number_of_vms_running", "Those of them that run", f"{BOUND[:-1]} AND b.vm_state = 'running')"),
        counted(
            "number_of_sessions",
            "Clients that it serves",
            "(SELECT count(*) FROM sessions s WHERE s.host_id = h.id AND s.ended_at IS NULL)",
        ),
        properties_field("host"),
        *creation_fields("host", "h"),
    ),
)


class Draining(msgspec.Struct, forbid_unknown_fields=True):
    """How a node gets empty. C{stop}: its VMs are stopped at once; C{wait}: they stay until they stop by themselves."""

    mode: Literal["stop", "wait"] = "stop"


class Confirmed(msgspec.Struct, forbid_unknown_fields=True):
    """@ivar confirm: the object's name, so that nobody does it by mistake."""

    confirm: str


class TokenWanted(msgspec.Struct, forbid_unknown_fields=True):
    """@ivar name: of the only node that may be enrolled with it; absent: any new one."""

    name: Annotated[str, Meta(min_length=1, max_length=253, pattern=NAME)] | None = None
    hours: Annotated[float, Meta(gt=0, le=720)] = 24.0


class Token(msgspec.Struct, forbid_unknown_fields=True):
    """Shown once."""

    token: str
    name: str | None
    hours: float


class Hosts(Collection):
    """Nodes."""

    resource = HOSTS
    bulk = ("block", "unblock", "drain", "undrain", "update", "delete")

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Any) -> None:
        await tx.execute("UPDATE hosts SET created_by = %s WHERE id = %s", (call.principal.name, object_id))

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        if values.get("name", current["name"]) != current["name"] and current["state"] not in GONE:
            raise Problem(
                "host-running", "It runs under the name that it has: stop it, and change its own file as well"
            )

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        if current["state"] not in GONE:
            raise Problem("host-running", f"It is {current['state']}: stop its daemon first")
        vms, sessions = current["number_of_vms"], await sessions_of(tx, current["id"])
        found = [{"kind": kind, "count": count} for kind, count in (("vm", vms), ("session", sessions)) if count]
        if found:
            raise Problem(
                "has-dependents",
                f"{vms} VMs are bound to it, and the history has {sessions} sessions that it served: decommission it"
                " instead, which keeps its row",
                dependents=found,
            )

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        found = super().actions_now(principal, row)
        if row["decommissioned"]:
            return [each for each in found if each == "delete"]
        if principal.holds("host.update.block"):
            found.append("unblock" if row["blocked"] else "block")
        if principal.holds("host.update.drain"):
            found.append("drain" if row["drain"] is None else "undrain")
        if principal.holds("host.update.stop-vms"):
            found.append("stop-vms")
        if principal.holds("host.update.declare-dead") and row["state"] not in GONE:
            found.append("declare-dead")
        return found

    def more_endpoints(self) -> Sequence[Endpoint]:
        item = {200: self.item}
        token = Endpoint(
            method="POST",
            path="/hosts/enrolment-tokens",
            action="host.enrol",
            need=acl("host.create.", superadmin=True),
            handler=self.enrol,
            summary="Nodes: make a token with which one machine becomes a node; it is shown this once",
            body=TokenWanted,
            answers={201: Token},
            dangerous=True,
            told_once=True,
            tag="hosts",
        )
        return [
            self.one("POST", "block", "block", "host.update.block", self.flag({"blocked": True}), item),
            self.one("POST", "unblock", "unblock", "host.update.block", self.flag({"blocked": False}), item),
            self.one("POST", "drain", "drain", "host.update.drain", self.drain, item, Draining),
            self.one("DELETE", "drain", "undrain", "host.update.drain", self.undrain, item),
            self.one("POST", "stop-vms", "stop-vms", "host.update.stop-vms", self.stop_vms, {202: ACCEPTED}),
            evolve(
                self.one(
                    "POST", "declare-dead", "declare-dead", "host.update.declare-dead", self.bury, item, Confirmed
                ),
                dangerous=True,
            ),
            evolve(
                self.one("POST", "decommission", "decommission", "host.delete.", self.decommission, item, Confirmed),
                dangerous=True,
            ),
            token,
            vms_of(self, "host_id"),
        ]

    def one(
        self,
        method: str,
        path: str,
        verb: str,
        needed: str,
        handler: Callable[[Call], Awaitable[Answer]],
        answers: Any,
        body: Any = None,
    ) -> Endpoint:
        """An operation on one node."""
        return Endpoint(
            method=method,
            path=f"/hosts/{{id}}/{path}",
            action=f"host.{verb}",
            need=acl(needed, superadmin=True),
            handler=handler,
            summary=f"Nodes: {SUMMARIES[verb]}",
            body=body,
            answers=answers,
            tag="hosts",
        )

    async def _on_one(self, call: Call, work: Callable[[ITransaction, Values], Awaitable[object]]) -> Answer:
        """Change a node that is one, and answer with how it is then."""

        async def whole(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            if current["decommissioned"]:
                raise Problem("conflict", "It was decommissioned, and is a node no more: enrol it again")
            await work(tx, current)
            call.subject = self.subject(current, await self.whole(call, current["id"], tx))
            return Answer(200, await self.shown(call, current["id"], tx))

        return await self.changing(call, whole)

    def flag(self, values: Values) -> Callable[[Call], Awaitable[Answer]]:
        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction, current: Values) -> None:
                await call.services.records.update(self.resource, current["id"], values, tx)

            return await self._on_one(call, work)

        return handle

    async def drain(self, call: Call) -> Answer:
        async def work(tx: ITransaction, current: Values) -> None:
            await tx.execute("UPDATE host_runtimes SET drain = %s WHERE host_id = %s", (call.body.mode, current["id"]))

        answer = await self._on_one(call, work)
        # In a transaction of its own, which locks VMs before nodes as all do: docs/decisions/0012-host-life.md. Of what
        # was only rehearsed, there is no flag, so it does nothing.
        await call.services.host_orders.apply_drain(call.number())
        return answer

    async def undrain(self, call: Call) -> Answer:
        async def work(tx: ITransaction, current: Values) -> None:
            await tx.execute("UPDATE host_runtimes SET drain = NULL WHERE host_id = %s", (current["id"],))

        return await self._on_one(call, work)

    async def stop_vms(self, call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            call.subject = self.subject(current, current)
            return await ask_for(
                call,
                tx,
                "host.stop-vms",
                {"name": current["name"]},
                object_kind="host",
                object_id=current["id"],
                object_name=current["name"],
                unit="vms",
            )

        return await self.changing(call, work)

    async def bury(self, call: Call) -> Answer:
        """Declare it dead."""

        async def work(tx: ITransaction, current: Values) -> None:
            confirm(call, current)
            try:
                await call.services.host_orders.declare_dead(current["id"], tx)
            except Conflict as error:
                raise Problem("host-running", error.text) from error

        return await self._on_one(call, work)

    async def decommission(self, call: Call) -> Answer:
        async def work(tx: ITransaction, current: Values) -> None:
            confirm(call, current)
            await call.services.host_orders.decommission(current["id"], tx)

        return await self._on_one(call, work)

    async def enrol(self, call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            wanted: TokenWanted = call.body
            try:
                token = await call.services.host_orders.new_token(wanted.name, wanted.hours, call.cause, tx)
            except InvalidRequest as error:
                raise Problem("invalid-value", error.text) from error
            call.subject = Subject("host", None, wanted.name or "")
            return Answer(201, Token(token.reveal(), wanted.name, wanted.hours))

        return await self.changing(call, work)


def confirm(call: Call, current: Values) -> None:
    """@raise Problem: not the name of the object that it would be done to."""
    if call.body.confirm != current["name"]:
        raise Problem("invalid-value", "confirm must be the name of what this is done to")


async def sessions_of(tx: ITransaction, host_id: int) -> int:
    row = await tx.fetch_one("SELECT count(*) FROM sessions WHERE host_id = %s", (host_id,))
    return int(row["count"]) if row else 0
