# -*- test-case-name: tests.contract.test_db_stores -*-
"""VMs as the L7R sees them: lists, states, orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen
from zope.interface import implementer

from qvd.db.images import hosts_without, resolve
from qvd.db.quotas import refusal
from qvd.db.rows import VM_COLUMNS, VM_TABLES, vm_of
from qvd.db.wishes import looked_at, wanted_for
from qvd.interfaces import IDatabase, ITransaction, IVMs, Row
from qvd.model.affinity import WrongRule
from qvd.model.crashloop import check_back_off
from qvd.model.errors import NotFound, Unavailable
from qvd.model.ids import HostId, UserId, VMId
from qvd.model.images import Image
from qvd.model.placement import NO_NODE, Candidate, Decision, Wanted, Weights, decide
from qvd.model.records import VM, Desired, Explanation, VMSummary
from qvd.model.vm import VMState

CANDIDATES = """
    SELECT h.host_id, hosts.name, h.state, h.blocked, coalesce(h.lease_until > now(), false) AS alive,
        h.usable_ram AS usable, h.usable_ram - coalesce(reserved.memory, 0) AS free, h.available_ram AS available,
        h.usable_cpu AS cores, h.idle_cpu AS idle, h.hypervisor, h.cpu_pressure, h.memory_pressure,
        h.drain IS NOT NULL AS draining
    FROM host_runtimes h JOIN hosts ON hosts.id = h.host_id LEFT JOIN (
        SELECT host_id, sum(reserved_ram)::bigint AS memory FROM vm_runtimes WHERE host_id IS NOT NULL GROUP BY host_id
    ) reserved USING (host_id) WHERE h.decommissioned_at IS NULL ORDER BY hosts.name
"""
UNPLACED = 200
"""Orders without a node that one look is given. More would keep a daemon from being handed over in time."""
GOING_DOWN = (VMState.STOPPING, VMState.ZOMBIE)


async def say_cause(tx: ITransaction, cause: str) -> None:
    """Name the cause of what this transaction does: the history's trigger reads it."""
    await tx.fetch("SELECT set_config('qvd.cause', %s, true)", (cause,))


@implementer(IVMs)
@frozen
class VMs:
    """L{IVMs} over PostgreSQL.

    @param chance: a number from 0 to 1, for the random part of a placement.
    """

    db: IDatabase
    weights: Weights
    chance: Callable[[], float]

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

    async def explain(self, vm_id: VMId) -> Explanation | None:
        row = await self.db.fetch_one(
            f"SELECT {VM_COLUMNS}, t.name AS tenant, h.name AS host, r.placement FROM {VM_TABLES}"
            " JOIN tenants t ON t.id = v.tenant_id LEFT JOIN hosts h ON h.id = r.host_id WHERE v.id = %s",
            (vm_id,),
        )
        return None if row is None else Explanation(vm_of(row), row["tenant"], row["host"], row["placement"])

    async def properties(self, vm_id: VMId) -> Mapping[str, str]:
        rows = await self.db.fetch("SELECT key, value FROM vm_parameters_of(%s)", (vm_id,))
        return {row["key"]: row["value"] for row in rows}

    async def order_start(self, vm_id: VMId, cause: str) -> None:
        async def order(tx: ITransaction) -> Decision | None:
            await say_cause(tx, cause)
            return await start(tx, vm_id, self.weights, self.chance)

        decision = await self.db.transact("order_start", order)
        if decision is not None and decision.host_id is None:
            raise Unavailable(decision.refusal, retry_after=30)

    async def order_stop(self, vm_id: VMId, cause: str) -> None:
        async def order(tx: ITransaction) -> None:
            await say_cause(tx, cause)
            await stop(tx, vm_id)

        await self.db.transact("order_stop", order)

    async def unplaced(self) -> Sequence[VMId]:
        rows = await self.db.fetch(
            "SELECT vm_id FROM vm_runtimes"
            " WHERE host_id IS NULL AND generation > acked_generation ORDER BY since, vm_id LIMIT %s",
            (UNPLACED,),
        )
        return [VMId(row["vm_id"]) for row in rows]

    async def place_again(self, vm_id: VMId, cause: str) -> bool:
        async def work(tx: ITransaction) -> bool:
            await say_cause(tx, cause)
            vm = await locked(tx, vm_id)
            if vm.host_id is not None or vm.generation == vm.acked:
                return False
            if vm.desired is Desired.STOPPED:
                await withdraw(tx, vm_id, None)
                return False
            if vm.retry_in:
                await withdraw(tx, vm_id, None)
                return False
            decision = await place(tx, vm_id, self.weights, self.chance)
            if decision.host_id is None:
                await withdraw(tx, vm_id, decision.refusal)
            return decision.host_id is not None

        return await self.db.transact("place_again", work)

    async def reset_failures(self, vm_id: VMId, cause: str) -> None:
        async def work(tx: ITransaction) -> None:
            vm = await locked(tx, vm_id)
            if not vm.failures:
                return
            await tx.execute("UPDATE vm_runtimes SET failures = 0, retry_at = NULL WHERE vm_id = %s", (vm_id,))
            await tx.execute(
                "INSERT INTO events (kind, tenant_id, vm_id, before, after, cause) VALUES ('vm.reset', %s, %s,"
                " jsonb_build_object('failures', %s::integer), jsonb_build_object('failures', 0), %s)",
                (vm.tenant_id, vm_id, vm.failures, cause),
            )

        await self.db.transact("reset_failures", work)


async def locked(tx: ITransaction, vm_id: VMId) -> VM:
    """The VM with its run-time row locked."""
    row = await tx.fetch_one(f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE v.id = %s FOR UPDATE OF r", (vm_id,))
    if row is None:
        raise NotFound("The requested virtual machine does not exist")
    return vm_of(row)


async def start(tx: ITransaction, vm_id: VMId, weights: Weights, chance: Callable[[], float]) -> Decision | None:
    """Order a start; L{None}: the VM has a node already.

    @raise Unavailable: it has failed too often, and may not be started yet.
    """
    vm = await locked(tx, vm_id)
    if vm.host_id is None:
        check_back_off(vm)
        return await place(tx, vm_id, weights, chance)
    if vm.desired is not Desired.RUNNING or (vm.state in GOING_DOWN and vm.generation == vm.acked):
        # One that ended by itself is still wanted, but its release will end that wish.
        await want(tx, vm_id, Desired.RUNNING)
    return None


async def stop(tx: ITransaction, vm_id: VMId, forced: bool = False) -> None:
    """Order a stop. A start that was to follow a stop under way does not.

    @param forced: the guest is not asked, even if it was before.
    """
    vm = await locked(tx, vm_id)
    await tx.execute("UPDATE vm_runtimes SET restart = false WHERE vm_id = %s AND restart", (vm_id,))
    if vm.host_id is None:
        if vm.desired is Desired.RUNNING:
            await withdraw(tx, vm_id, None)
    elif vm.desired is Desired.RUNNING or (forced and vm.state is not VMState.STOPPED):
        await want(tx, vm_id, Desired.STOPPED, forced)


async def want(tx: ITransaction, vm_id: VMId, desired: Desired, forced: bool = False) -> None:
    """A new order for a VM that has a node, or needs none."""
    await tx.execute(
        "UPDATE vm_runtimes SET desired_state = %s, generation = generation + 1, forced = %s WHERE vm_id = %s",
        (desired.value, forced, vm_id),
    )


async def withdraw(tx: ITransaction, vm_id: VMId, error: str | None) -> None:
    """A start order without a node is over: there is nobody who could acknowledge its end."""
    await tx.execute(
        "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1,"
        " acked_generation = generation + 1, phase = 'stopped', detail = '', last_error = coalesce(%s, last_error)"
        " WHERE vm_id = %s AND host_id IS NULL",
        (error, vm_id),
    )


async def place(tx: ITransaction, vm_id: VMId, weights: Weights, chance: Callable[[], float]) -> Decision:
    """Choose a node for a stopped VM, bind it there and order its start. The decision is stored, a refusal too.

    A node that takes it is chosen with the nodes' rows locked: what is read then has all that earlier placements
    reserved in it, so two at the same moment never overbook a node. A refusal changes no node: it needs no lock, and
    so a crowd before a full farm keeps neither each other waiting nor the nodes' renewals.
    """
    decision = await consider(tx, vm_id, weights, chance)
    document = json.dumps(decision.document())
    if decision.host_id is None:
        await tx.execute(
            "UPDATE vm_runtimes SET last_error = %s, placement = %s WHERE vm_id = %s",
            (decision.refusal, document, vm_id),
        )
    else:
        await tx.execute(
            "UPDATE vm_runtimes SET host_id = %s, desired_state = 'running', generation = generation + 1,"
            " last_error = NULL, placement = %s, phase = 'stopped', detail = '' WHERE vm_id = %s AND host_id IS NULL",
            (decision.host_id, document, vm_id),
        )
    return decision


async def consider(tx: ITransaction, vm_id: VMId, weights: Weights, chance: Callable[[], float]) -> Decision:
    """What L{place} decides. Returns with the nodes' rows locked when one takes it."""
    beyond = await refusal(tx, vm_id)
    if beyond is not None:
        return Decision(None, None, (), problem=beyond)
    resolution = await resolve(tx, vm_id)
    if resolution.refusal is not None:
        return Decision(None, None, (), problem=resolution.refusal)
    try:
        wanted = evolve(await wanted_for(tx, vm_id), hypervisor=resolution.needs)
    except WrongRule as error:
        return Decision(None, None, (), problem=f"{NO_NODE}: {error.text}")
    decision = decide(await nodes_for(tx, vm_id, wanted, resolution.image), wanted, weights, chance)
    if decision.host_id is not None:
        await tx.fetch("SELECT host_id FROM host_runtimes ORDER BY host_id FOR UPDATE")
        decision = decide(await nodes_for(tx, vm_id, wanted, resolution.image), wanted, weights, chance)
    return decision


async def nodes_for(tx: ITransaction, vm_id: VMId, wanted: Wanted, image: Image | None) -> Sequence[Candidate]:
    """All nodes, as they are now."""
    nodes = [candidate_of(row) for row in await tx.fetch(CANDIDATES)]
    if image is not None:
        without = await hosts_without(tx, image)
        nodes = [evolve(node, lacks=image.version if node.host_id in without else None) for node in nodes]
    return await looked_at(tx, vm_id, wanted, nodes)


def candidate_of(row: Row) -> Candidate:
    """A row of C{CANDIDATES}."""
    return Candidate(**{**row, "host_id": HostId(row["host_id"])})
