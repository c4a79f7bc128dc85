# -*- test-case-name: tests.contract.test_db_stores -*-
"""
VMs as their node sees them. Every write names host and epoch; no row touched means "not mine any more".

A write that was given up may be committed long after it was repeated, in the VM's next run: the number of the run keeps
it away from that (C{docs/decisions/0016-runs.md}).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.drain import give_up_orders
from qvd.db.images import IMAGE_COLUMNS, IMAGE_TABLES, resolution_of
from qvd.db.network import NIC_COLUMNS, NIC_TABLES, nic_of
from qvd.db.rows import MINE, RELEASED, SERVER, VM_COLUMNS, VM_TABLES, vm_of
from qvd.interfaces import IDatabase, IOwnership, ITransaction, Row
from qvd.model.account import unix_name
from qvd.model.crashloop import Ending, back_offs
from qvd.model.errors import NotFound, OwnershipLost
from qvd.model.ids import DIId, Generation, Run, TenantId, VMId
from qvd.model.records import VM, Change, Held, Lease, Persistence, VMSpec
from qvd.model.secret import Secret
from qvd.model.vm import VMState

# A start that was ordered while the VM went down, and failed once too often, waits for the end of its back-off.
PENDING = (
    "r.host_id = %(host)s AND r.generation > r.acked_generation"
    " AND (r.desired_state = 'stopped' OR r.retry_at IS NULL OR r.retry_at <= now())"
)
# Another run of the same VM, under the same epoch, is not what the write is about.
RUN = "coalesce(run = %(run)s::bigint, true)"
# In order of id, like all that lock several of these rows.
SHOW = """
    UPDATE vm_runtimes r SET detail = n.detail FROM (
        SELECT t.vm_id, s.detail FROM vm_runtimes t
        JOIN unnest(%(vms)s::integer[], %(phases)s::text[], %(details)s::text[]) AS s (vm_id, phase, detail)
            USING (vm_id)
        WHERE t.host_id = %(host)s AND t.host_epoch = %(epoch)s AND t.phase = s.phase
        ORDER BY t.vm_id FOR UPDATE OF t
    ) n WHERE r.vm_id = n.vm_id RETURNING r.vm_id
"""
# What the end of a run says of the VM; the right sides read the row as it was.
COUNTED = """
    failures = CASE %(ending)s WHEN 'failed' THEN failures + 1 WHEN 'settled' THEN 0 ELSE failures END,
    retry_at = CASE %(ending)s
        WHEN 'failed' THEN now() + nullif((%(pauses)s::float8[])[least(failures + 1, %(most)s)], 0)
            * interval '1 second'
        WHEN 'settled' THEN NULL ELSE retry_at END
"""

# A row that grants the VM to this epoch may still be an older one than the node's, on a server that has just come.
ACCOUNT = f"""
    WITH held AS (
        SELECT * FROM unnest(%(vms)s::integer[], %(states)s::text[], %(ports)s::integer[], %(runs)s::bigint[])
            AS held (vm_id, state, port, run)
    ), known AS (
        INSERT INTO servers (server) SELECT {SERVER} WHERE NOT EXISTS (SELECT FROM servers WHERE server = {SERVER})
        ON CONFLICT DO NOTHING
    ), here AS (
        SELECT server IS NOT DISTINCT FROM {SERVER} AS familiar FROM host_runtimes WHERE {MINE}
    ), differing AS (
        SELECT held.vm_id FROM held LEFT JOIN vm_runtimes r ON r.vm_id = held.vm_id AND r.host_id = %(host)s
            AND r.host_epoch = %(epoch)s AND r.vm_state <> 'stopped' AND coalesce(r.run = held.run, true)
        WHERE r.vm_id IS NULL OR (NOT EXISTS (SELECT FROM here WHERE familiar)
            AND (r.vm_state <> held.state OR (held.state = 'running' AND r.vm_vma_port <> held.port)))
    ), accounted AS (
        UPDATE host_runtimes SET server = {SERVER}
        WHERE {MINE} AND server IS DISTINCT FROM {SERVER} AND NOT EXISTS (SELECT FROM differing)
    )
    SELECT vm_id FROM differing ORDER BY vm_id
"""
# Of nodes that have not said what they have, those that live have fenced themselves when a lease has passed.
SETTLED = f"""
    (NOT EXISTS (SELECT FROM host_runtimes o WHERE o.server <> {SERVER})
    OR EXISTS (SELECT FROM servers s WHERE s.server = {SERVER}
        AND s.since + (SELECT max(o.lease_until - o.ok_ts) FROM host_runtimes o) < clock_timestamp()))
"""


@implementer(IOwnership)
@frozen
class Ownership:
    """L{IOwnership} over PostgreSQL.

    @ivar gateway: of this node's VMs, where the VM network has none of its own.
    """

    db: IDatabase
    gateway: str | None = None

    async def bound(self, lease: Lease) -> Sequence[VM]:
        rows = await self.db.fetch(f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE r.host_id = %s", (lease.host_id,))
        return [vm_of(row) for row in rows]

    async def pending(self, lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        # Stops first: what they free may be what a start needs.
        rows = await self.db.fetch(
            f"SELECT {VM_COLUMNS} FROM {VM_TABLES} WHERE {PENDING} OR (r.host_id = %(host)s"
            "  AND r.host_epoch <= %(epoch)s AND r.vm_state <> 'stopped' AND (r.vm_id <> ALL(%(carried)s::integer[])"
            "  OR (r.desired_state = 'stopped' AND r.vm_state IN ('starting', 'running'))))"
            " ORDER BY r.desired_state DESC, r.ordered_at, r.vm_id",
            {"host": lease.host_id, "epoch": lease.epoch, "carried": list(carried)},
        )
        return [vm_of(row) for row in rows]

    async def account(self, lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        rows = await self.db.fetch(
            ACCOUNT,
            {
                "host": lease.host_id,
                "epoch": lease.epoch,
                "vms": [each.vm_id for each in held],
                "states": [each.state and each.state.value for each in held],
                "ports": [each.vma_port for each in held],
                "runs": [each.run for each in held],
            },
        )
        return [VMId(row["vm_id"]) for row in rows]

    async def claim_start(self, lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        async def work(tx: ITransaction) -> VMSpec | None:
            row = await startable(tx, lease, vm_id)
            if row is None:
                return None
            if row["drain"] is not None:
                await give_up_orders(tx, lease.host_id, vm_id)
                return None
            resolution = resolution_of(row)
            refusal = resolution.refusal or resolution.refusal_on(row["hypervisor"])
            if refusal is not None:
                raise NotFound(refusal)
            claimed = await tx.fetch_one(
                "UPDATE vm_runtimes SET vm_state = 'starting', phase = 'preparing', detail = 'Preparing to start',"
                " since = now(), acked_generation = generation, host_epoch = %s, vm_secret = %s, current_di_id = %s,"
                " last_error = NULL WHERE vm_id = %s RETURNING run",
                (lease.epoch, secret.reveal(), row["di_id"], vm_id),
            )
            assert claimed is not None, "its row is locked"
            return spec_of(row, secret, Run(claimed["run"]), self.gateway)

        return await self.db.transact("claim_start", work)

    async def refuse(self, lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        await self.db.execute(
            "UPDATE vm_runtimes SET desired_state = 'stopped', acked_generation = generation, host_id = NULL,"
            " last_error = %s WHERE vm_id = %s AND host_id = %s AND generation = %s AND vm_state = 'stopped'",
            (error, vm_id, lease.host_id, generation),
        )

    async def acknowledge(self, lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        touched = await self.db.execute(
            "UPDATE vm_runtimes SET acked_generation = generation,"
            " host_id = CASE WHEN vm_state = 'stopped' AND desired_state = 'stopped' THEN NULL ELSE host_id END"
            " WHERE vm_id = %s AND host_id = %s AND generation = %s",
            (vm_id, lease.host_id, generation),
        )
        return touched > 0

    async def adopt(self, lease: Lease, vm: VM, again: bool = False) -> None:
        await self._guarded(
            vm.vm_id,
            "UPDATE vm_runtimes SET host_epoch = %(epoch)s, acked_generation = CASE WHEN %(again)s"
            "  THEN least(acked_generation, generation - 1) ELSE acked_generation END"
            " WHERE vm_id = %(vm)s AND host_id = %(host)s AND host_epoch = %(old)s AND host_epoch <= %(epoch)s"
            # A server that has forgotten this epoch will give it, or an older one, to the node's next registration.
            " AND EXISTS (SELECT FROM host_runtimes h WHERE h.host_id = %(host)s AND h.epoch = %(epoch)s)"
            f" AND {RUN}",
            {
                "vm": vm.vm_id,
                "host": lease.host_id,
                "epoch": lease.epoch,
                "old": vm.epoch,
                "again": again,
                "run": vm.run,
            },
        )

    async def save(self, lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        guest = change.guest
        await self._guarded(
            vm_id,
            "UPDATE vm_runtimes SET vm_state = %(state)s, phase = %(phase)s, detail = %(detail)s,"
            " since = CASE WHEN vm_state = %(state)s THEN since ELSE now() END,"
            " last_error = coalesce(%(error)s, last_error), vm_address = coalesce(%(address)s, vm_address),"
            " vm_vma_port = coalesce(%(vma_port)s, vm_vma_port), vm_x_port = coalesce(%(x_port)s, vm_x_port)"
            " WHERE vm_id = %(vm)s AND host_id = %(host)s AND host_epoch = %(epoch)s"
            f" AND {RUN}"
            # A write whose answer was lost is repeated: the row then has the new state already.
            " AND vm_state IN (%(expected)s, %(state)s)",
            {
                "vm": vm_id,
                "host": lease.host_id,
                "epoch": lease.epoch,
                "expected": expected.value,
                "state": change.state.value,
                "phase": change.phase,
                "detail": change.detail,
                "error": change.error,
                "address": guest and guest.address,
                "vma_port": guest and guest.vma_port,
                "x_port": guest and guest.x_port,
                "run": run,
            },
        )

    async def progress(self, lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        await self.db.execute(
            "UPDATE vm_runtimes SET detail = %(detail)s WHERE vm_id = %(vm)s AND host_id = %(host)s"
            f" AND host_epoch = %(epoch)s AND phase = %(phase)s AND {RUN}",
            {
                "detail": detail,
                "vm": vm_id,
                "host": lease.host_id,
                "epoch": lease.epoch,
                "phase": phase,
                "run": run,
            },
        )

    async def show(self, lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        vms, phases, details = (list(column) for column in zip(*texts, strict=True)) if texts else ([], [], [])
        rows = await self.db.fetch(
            SHOW, {"vms": vms, "phases": phases, "details": details, "host": lease.host_id, "epoch": lease.epoch}
        )
        return {VMId(row["vm_id"]) for row in rows}

    async def seen(self, lease: Lease, vm_ids: Sequence[VMId]) -> None:
        await self.db.execute(
            # In order of id, too: without it the rows are locked as they come.
            "UPDATE vm_runtimes r SET vma_ok_ts = now() FROM (SELECT vm_id FROM vm_runtimes"
            "  WHERE vm_id = ANY(%s) AND host_id = %s AND host_epoch = %s ORDER BY vm_id FOR UPDATE"
            " ) n WHERE r.vm_id = n.vm_id",
            (list(vm_ids), lease.host_id, lease.epoch),
        )

    async def release(
        self,
        lease: Lease,
        vm_id: VMId,
        error: str | None,
        ending: Ending = Ending.NEUTRAL,
        run: Run | None = None,
    ) -> None:
        pauses = list(back_offs())
        # A start ordered while the VM was going down keeps its node and is taken up there; else the row is free.
        await self._guarded(
            vm_id,
            f"UPDATE vm_runtimes SET {RELEASED}, {COUNTED}, phase = 'stopped',"
            " last_error = coalesce(%(error)s, last_error),"
            " host_id = CASE WHEN desired_state = 'running' AND generation > acked_generation THEN host_id END"
            f" WHERE vm_id = %(vm)s AND host_id = %(host)s AND host_epoch = %(epoch)s AND {RUN}",
            {
                "vm": vm_id,
                "host": lease.host_id,
                "epoch": lease.epoch,
                "error": error,
                "ending": ending.value,
                "pauses": pauses,
                "most": len(pauses),
                "run": run,
            },
        )

    async def _guarded(self, vm_id: VMId, sql: str, parameters: dict[str, object]) -> None:
        if not await self.db.execute(sql, parameters):
            raise OwnershipLost(f"VM {vm_id} is not this node's any more")


async def startable(tx: ITransaction, lease: Lease, vm_id: VMId) -> Row | None:
    """What a pending start order is for, its row locked; L{None} without one, when the lease is not live, or while
    it is not known on this server what runs."""
    return await tx.fetch_one(
        "SELECT v.id AS vm_id, v.tenant_id, v.name, u.login, o.memory, o.cpus, o.user_storage_size,"
        f" o.persistence, d.checksum, {NIC_COLUMNS}, {IMAGE_COLUMNS}, h.drain, h.hypervisor"
        " FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id"
        f" JOIN osfs o ON o.id = v.osf_id JOIN host_runtimes h ON h.host_id = r.host_id {NIC_TABLES} {IMAGE_TABLES}"
        f" WHERE {PENDING} AND r.vm_id = %(vm)s AND r.desired_state = 'running' AND r.vm_state = 'stopped'"
        f" AND h.epoch = %(epoch)s AND h.lease_until > now() AND {SETTLED} FOR UPDATE OF r",
        {"host": lease.host_id, "epoch": lease.epoch, "vm": vm_id},
    )


def spec_of(row: Row, secret: Secret, run: Run, gateway: str | None) -> VMSpec:
    """A row of L{startable} with an image."""
    return VMSpec(
        vm_id=VMId(row["vm_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        name=row["name"],
        login=unix_name(row["login"]),
        di_id=DIId(row["di_id"]),
        image=row["path"],
        memory=row["memory"],
        home=f"{row['tenant_id']}/{row['vm_id']}",
        secret=secret,
        run=run,
        image_type=row["type"],
        checksum=row["checksum"],
        persistence=Persistence(row["persistence"]),
        user_storage=row["user_storage_size"],
        cpus=row["cpus"],
        nic=nic_of(row, gateway),
    )
