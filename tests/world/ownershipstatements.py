"""The transactions of L{qvd.db.ownership}, as functions of the simulated tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import evolve

from qvd.model.account import unix_name
from qvd.model.crashloop import Ending, back_offs
from qvd.model.errors import NotFound, OwnershipLost
from qvd.model.ids import DIId, Generation, Run, VMId
from qvd.model.records import VM, Change, Desired, Held, Lease, VMSpec
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.world.hoststatements import HostStatements
from tests.world.tables import VMRow


class OwnershipStatements(HostStatements):
    """Those of L{qvd.db.ownership}."""

    def bound(self, lease: Lease) -> Sequence[VM]:
        return [self.read_vm(row) for row in self.vms.values() if row.vm.host_id == lease.host_id]

    def pending(self, lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        def looks(row: VMRow) -> bool:
            vm = row.vm
            return self.waits(row) or (self.is_ours(vm, lease) and (vm.vm_id not in carried or self.goes_on(vm)))

        found = [row for row in self.vms.values() if row.vm.host_id == lease.host_id and looks(row)]
        found.sort(key=lambda row: (row.vm.desired is Desired.RUNNING, row.ordered_at, row.vm.vm_id))
        return [self.read_vm(row) for row in found]

    def is_ours(self, vm: VM, lease: Lease) -> bool:
        """It runs, or did, under this epoch or an older one."""
        return vm.epoch is not None and vm.epoch <= lease.epoch and vm.state is not VMState.STOPPED

    def waits(self, row: VMRow) -> bool:
        """The fragment C{PENDING}, but for the node."""
        due = row.vm.desired is Desired.STOPPED or row.retry_at is None or row.retry_at <= self.now()
        return row.vm.generation > row.vm.acked and due

    def goes_on(self, vm: VM) -> bool:
        """Its stop was taken up, and nothing has come of it yet."""
        return vm.desired is Desired.STOPPED and vm.state in (VMState.STARTING, VMState.RUNNING)

    def account(self, lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        mine = self.mine(lease.host_id, lease.epoch)
        familiar = mine is not None and mine.server == self.server
        differing = [each.vm_id for each in held if self._differs(lease, each, familiar)]
        self.servers.setdefault(self.server, self.now())
        if mine is not None and not familiar and not differing:
            self.write_host(lease.host_id, server=self.server)
        return sorted(differing)

    def _differs(self, lease: Lease, held: Held, familiar: bool) -> bool:
        row = self.vms.get(held.vm_id)
        if row is None or (row.vm.host_id, row.vm.epoch) != (lease.host_id, lease.epoch):
            return True
        if held.run not in (None, row.vm.run):
            return True
        if row.vm.state is VMState.STOPPED or familiar or held.state is None:
            return row.vm.state is VMState.STOPPED
        port = None if row.vm.guest is None else row.vm.guest.vma_port
        moved = held.state is VMState.RUNNING and held.vma_port is not None and port is not None
        return row.vm.state is not held.state or (moved and port != held.vma_port)

    def settled(self) -> bool:
        """The fragment C{SETTLED}."""
        if all(row.server in (None, self.server) for row in self.hosts.values()):
            return True
        leases = [
            row.lease_until - row.ok_ts
            for row in self.hosts.values()
            if row.lease_until is not None and row.ok_ts is not None
        ]
        since = self.servers.get(self.server)
        return since is not None and bool(leases) and since + max(leases) < self.now()

    def claim_start(self, lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        row, host = self.vms[vm_id], self.hosts[lease.host_id]
        vm = row.vm
        ordered = vm.host_id == lease.host_id and self.waits(row) and vm.desired is Desired.RUNNING
        if not ordered or vm.state is not VMState.STOPPED or not self.may_start(lease) or not self.settled():
            return None
        if host.drain is not None:
            self.give_up_orders(lease.host_id, vm_id)
            return None
        if row.imageless:
            raise NotFound("No disk image of 'desk' carries the tag 'default'")
        self.write_vm(
            vm_id,
            secret,
            DIId(1),
            state=VMState.STARTING,
            phase="preparing",
            detail="Preparing to start",
            since=self.timestamp(),
            acked=vm.generation,
            epoch=lease.epoch,
            last_error=None,
            run=Run(vm.run + 1),
        )
        return VMSpec(
            vm_id=vm_id,
            tenant_id=vm.tenant_id,
            name=vm.name,
            login=unix_name(vm.login),
            di_id=DIId(1),
            image="desk",
            memory=row.memory,
            home=f"{vm.tenant_id}/{vm_id}",
            secret=secret,
            run=Run(vm.run + 1),
        )

    def may_start(self, lease: Lease) -> bool:
        """It is this epoch's turn, and its lease is live."""
        host = self.hosts[lease.host_id]
        return host.epoch == lease.epoch and self.live(host)

    def refuse(self, lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        vm = self.vms[vm_id].vm
        if vm.host_id == lease.host_id and vm.generation == generation and vm.state is VMState.STOPPED:
            self.write_vm(vm_id, desired=Desired.STOPPED, acked=generation, host_id=None, last_error=error)

    def acknowledge(self, lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        vm = self.vms[vm_id].vm
        if vm.host_id != lease.host_id or vm.generation != generation:
            return False
        free = vm.state is VMState.STOPPED and vm.desired is Desired.STOPPED
        self.write_vm(vm_id, acked=generation, host_id=None if free else vm.host_id)
        return True

    def adopt(self, lease: Lease, vm: VM, again: bool = False) -> None:
        row = self.vms[vm.vm_id].vm
        same = row.host_id == lease.host_id and row.epoch is not None and row.epoch == vm.epoch and row.run == vm.run
        if not same or (row.epoch or 0) > lease.epoch or not self.is_present(lease):
            raise OwnershipLost(f"VM {vm.vm_id} is not this node's any more")
        acked = Generation(min(row.acked, row.generation - 1)) if again else row.acked
        self.write_vm(vm.vm_id, epoch=lease.epoch, acked=acked)

    def is_present(self, lease: Lease) -> bool:
        """It is the node's newest epoch."""
        return self.hosts[lease.host_id].epoch == lease.epoch

    def save(self, lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        vm = self.owned(lease, vm_id, run)
        if vm.state not in (expected, change.state):
            raise OwnershipLost(f"VM {vm_id} is not this node's any more")
        secret = self.vms[vm_id].secret
        guest = vm.guest
        if change.guest is not None and secret is not None:
            # The secret is the row's, as claimed.
            guest = evolve(change.guest, secret=secret)
        self.write_vm(
            vm_id,
            state=change.state,
            phase=change.phase,
            detail=change.detail,
            since=vm.since if vm.state is change.state else self.timestamp(),
            last_error=vm.last_error if change.error is None else change.error,
            guest=guest,
        )

    def progress(self, lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        vm = self.vms[vm_id].vm
        mine = vm.host_id == lease.host_id and vm.epoch == lease.epoch and self.same_run(vm, run)
        if mine and vm.phase == phase:
            self.write_vm(vm_id, detail=detail)

    def show(self, lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        shown = set()
        for vm_id, phase, detail in texts:
            vm = self.vms[vm_id].vm
            if vm.host_id == lease.host_id and vm.epoch == lease.epoch and vm.phase == phase:
                self.write_vm(vm_id, detail=detail)
                shown.add(vm_id)
        return shown

    def release(
        self,
        lease: Lease,
        vm_id: VMId,
        error: str | None,
        ending: Ending = Ending.NEUTRAL,
        run: Run | None = None,
    ) -> None:
        vm = self.owned(lease, vm_id, run)
        waits = vm.desired is Desired.RUNNING and vm.generation > vm.acked
        changes = self.released(vm) | {"phase": "stopped", "host_id": vm.host_id if waits else None}
        changes["failures"] = self._count(vm_id, ending)
        self.write_vm(vm_id, **changes, last_error=vm.last_error if error is None else error)

    def _count(self, vm_id: VMId, ending: Ending) -> int:
        """The fragment C{COUNTED}: how many failures there are now."""
        failures, pauses = self.vms[vm_id].vm.failures, back_offs()
        if ending is Ending.SETTLED:
            failures, retry_at = 0, None
        elif ending is Ending.FAILED:
            failures += 1
            pause = pauses[min(failures, len(pauses)) - 1]
            retry_at = self.now() + pause if pause else None
        else:
            retry_at = self.vms[vm_id].retry_at
        self.vms[vm_id] = evolve(self.vms[vm_id], retry_at=retry_at)
        return failures

    def owned(self, lease: Lease, vm_id: VMId, run: Run | None) -> VM:
        vm = self.vms[vm_id].vm
        if vm.host_id != lease.host_id or vm.epoch != lease.epoch or not self.same_run(vm, run):
            raise OwnershipLost(f"VM {vm_id} is not this node's any more")
        return vm

    def same_run(self, vm: VM, run: Run | None) -> bool:
        """The fragment C{RUN}."""
        return run in (None, vm.run)
