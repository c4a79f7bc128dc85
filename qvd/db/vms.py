# -*- test-case-name: tests.contract.test_db_stores -*-
"""VMs as the L7R sees them: lists, states, orders."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.rows import VM_COLUMNS, VM_TABLES, vm_of
from qvd.interfaces import IDatabase, ITransaction, IVMs
from qvd.model.errors import NotFound, Unavailable
from qvd.model.ids import UserId, VMId
from qvd.model.placement import Candidate, explain
from qvd.model.records import VM, Desired, VMSummary
from qvd.model.vm import VMState

RESERVED = """
    SELECT r.host_id, sum(o.memory) AS memory FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id
    JOIN osfs o ON o.id = v.osf_id WHERE r.host_id IS NOT NULL GROUP BY r.host_id
"""
GOING_DOWN = (VMState.STOPPING, VMState.ZOMBIE)


async def say_cause(tx: ITransaction, cause: str) -> None:
    """Name the cause of what this transaction does: the history's trigger reads it."""
    await tx.fetch("SELECT set_config('qvd.cause', %s, true)", (cause,))


@implementer(IVMs)
@frozen
class VMs:
    """L{IVMs} over PostgreSQL."""

    db: IDatabase

    async def list_for_user(self, user_id: UserId, applications: bool) -> Sequence[VMSummary]:
        rows = await self.db.fetch(
            "SELECT v.id, v.name, r.vm_state, r.blocked, o.is_application FROM vms v"
            " JOIN vm_runtimes r ON r.vm_id = v.id JOIN osfs o ON o.id = v.osf_id"
            " WHERE v.user_id = %s AND o.is_application = %s ORDER BY v.name, v.id",
            (user_id, applications),
        )
        return [
            VMSummary(VMId(row["id"]), row["name"], VMState(row["vm_state"]), row["blocked"], row["is_application"])
            for row in rows
        ]

    async def get(self, vm_id: VMId) -> VM | None:
        row = await self.db.fetch_one(f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE v.id = %s", (vm_id,))
        return None if row is None else vm_of(row)

    async def order_start(self, vm_id: VMId, cause: str) -> None:
        async def order(tx: ITransaction) -> None:
            await say_cause(tx, cause)
            vm = await locked(tx, vm_id)
            if vm.host_id is None:
                await place(tx, vm_id)
            elif vm.desired is not Desired.RUNNING or (vm.state in GOING_DOWN and vm.generation == vm.acked):
                # One that ended by itself is still wanted, but its release will end that wish.
                await want(tx, vm_id, Desired.RUNNING)

        await self.db.transact("order_start", order)

    async def order_stop(self, vm_id: VMId, cause: str) -> None:
        async def order(tx: ITransaction) -> None:
            await say_cause(tx, cause)
            vm = await locked(tx, vm_id)
            if vm.desired is not Desired.STOPPED:
                await want(tx, vm_id, Desired.STOPPED)

        await self.db.transact("order_stop", order)


async def locked(tx: ITransaction, vm_id: VMId) -> VM:
    """The VM with its run-time row locked."""
    row = await tx.fetch_one(f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE v.id = %s FOR UPDATE OF r", (vm_id,))
    if row is None:
        raise NotFound("The requested virtual machine does not exist")
    return vm_of(row)


async def want(tx: ITransaction, vm_id: VMId, desired: Desired) -> None:
    """A new order for a VM that has a node, or needs none."""
    await tx.execute(
        "UPDATE vm_runtimes SET desired_state = %s, generation = generation + 1 WHERE vm_id = %s",
        (desired.value, vm_id),
    )


async def place(tx: ITransaction, vm_id: VMId) -> None:
    """Bind a stopped VM to the node with the most free memory and order its start, capacity checked.

    The nodes' rows are locked first: the binding statement then sees all that earlier placements reserved, so two
    at the same moment never overbook a node.
    """
    await tx.fetch("SELECT host_id FROM host_runtimes ORDER BY host_id FOR UPDATE")
    placed = await tx.execute(
        f"WITH reserved AS ({RESERVED}), wanted AS ("
        "  SELECT o.memory FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = %(vm)s"
        "), chosen AS ("
        "  SELECT h.host_id FROM wanted, host_runtimes h LEFT JOIN reserved USING (host_id)"
        "  WHERE h.state = 'running' AND NOT h.blocked AND h.lease_until > now()"
        "  AND h.usable_ram - coalesce(reserved.memory, 0) >= wanted.memory"
        "  ORDER BY h.usable_ram - coalesce(reserved.memory, 0) DESC, random() LIMIT 1"
        ") UPDATE vm_runtimes r SET host_id = chosen.host_id, desired_state = 'running',"
        "  generation = generation + 1, last_error = NULL"
        " FROM chosen WHERE r.vm_id = %(vm)s AND r.host_id IS NULL",
        {"vm": vm_id},
    )
    if not placed:
        raise Unavailable(await refusal(tx, vm_id), retry_after=30)


async def refusal(tx: ITransaction, vm_id: VMId) -> str:
    """Why no node takes the VM: each node by name, with the rule that rejected it."""
    rows = await tx.fetch(
        f"WITH reserved AS ({RESERVED}) SELECT hosts.name, h.state, h.blocked,"
        " coalesce(h.lease_until > now(), false) AS alive, h.usable_ram - coalesce(reserved.memory, 0) AS free,"
        " (SELECT o.memory FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = %s) AS memory"
        " FROM host_runtimes h JOIN hosts ON hosts.id = h.host_id LEFT JOIN reserved USING (host_id)"
        " ORDER BY hosts.name",
        (vm_id,),
    )
    nodes = [Candidate(row["name"], row["state"], row["blocked"], row["alive"], int(row["free"])) for row in rows]
    return explain(nodes, rows[0]["memory"] if rows else 0)
