"""Each transaction of the stores in C{qvd/db}, as a function of the simulated tables. None of them waits.

L{tests.contract.test_world_stores} runs the same random calls against these and a real PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve

from qvd.model.crashloop import check_back_off
from qvd.model.errors import NotFound, SessionLost, Unavailable
from qvd.model.host import LOST_PHASE
from qvd.model.ids import Generation, HostId, SessionId, VMId
from qvd.model.placement import Candidate, Decision, Wanted, Weights, decide
from qvd.model.records import VM, Desired, SessionSpec
from qvd.model.vm import VMState
from qvd.protocols.channels import session_on_host
from tests.world.ownershipstatements import OwnershipStatements
from tests.world.tables import HostRow, SessionRow, Tables, VMRow

GONE = "The node of this virtual machine does not answer any more"
TAKEN = "Another client has taken this virtual machine over"
NO_IMAGE = "No disk image of 'desk' carries the tag 'default'"
GOING_DOWN = (VMState.STOPPING, VMState.ZOMBIE)


class VMStatements(Tables):
    """Those of L{qvd.db.vms}."""

    weights = Weights()
    chance: Callable[[], float] = staticmethod(lambda: 0.5)

    def get(self, vm_id: VMId) -> VM | None:
        row = self.vms.get(vm_id)
        return None if row is None else self.read_vm(row)

    def order_start(self, vm_id: VMId) -> None:
        vm = self.locked(vm_id)
        if vm.host_id is None:
            check_back_off(vm)
            decision = self.place(vm_id)
            if decision.host_id is None:
                raise Unavailable(decision.refusal, retry_after=30)
        elif vm.desired is not Desired.RUNNING or (vm.state in GOING_DOWN and vm.generation == vm.acked):
            self._want(vm, Desired.RUNNING)

    def order_stop(self, vm_id: VMId) -> None:
        vm = self.locked(vm_id)
        if vm.desired is Desired.STOPPED:
            return
        if vm.host_id is None:
            self._withdraw(vm, None)
        else:
            self._want(vm, Desired.STOPPED)

    def unplaced(self) -> Sequence[VMId]:
        found = [row.vm for row in self.vms.values() if row.vm.host_id is None and row.vm.generation > row.vm.acked]
        return [vm.vm_id for vm in sorted(found, key=lambda vm: (vm.since, vm.vm_id))]

    def place_again(self, vm_id: VMId) -> bool:
        vm = self.locked(vm_id)
        if vm.host_id is not None or vm.generation == vm.acked:
            return False
        if vm.desired is Desired.STOPPED or vm.retry_in:
            self._withdraw(vm, None)
            return False
        decision = self.place(vm_id)
        if decision.host_id is None:
            self._withdraw(self.vms[vm_id].vm, decision.refusal)
        return decision.host_id is not None

    def locked(self, vm_id: VMId) -> VM:
        if vm_id not in self.vms:
            raise NotFound("The requested virtual machine does not exist")
        return self.read_vm(self.vms[vm_id])

    def reset_failures(self, vm_id: VMId) -> None:
        self.locked(vm_id)
        self.vms[vm_id] = evolve(self.vms[vm_id], retry_at=None)
        self.write_vm(vm_id, failures=0)

    def place(self, vm_id: VMId) -> Decision:
        decision = self._decide(vm_id)
        if decision.host_id is None:
            self.write_vm(vm_id, last_error=decision.refusal)
        else:
            number = Generation(self.vms[vm_id].vm.generation + 1)
            order: dict[str, Any] = {"host_id": decision.host_id, "desired": Desired.RUNNING, "generation": number}
            self.write_vm(vm_id, **order, last_error=None, phase="stopped", detail="")
        return decision

    def _decide(self, vm_id: VMId) -> Decision:
        if self.vms[vm_id].imageless:
            return Decision(None, None, (), problem=NO_IMAGE)
        hosts = [self._candidate(row) for row in sorted(self.hosts.values(), key=lambda row: row.name)]
        return decide(hosts, Wanted(self.vms[vm_id].memory), self.weights, self.chance)

    def reserved(self, host_id: HostId) -> int:
        """Bytes."""
        return sum(row.memory for row in self.vms.values() if row.vm.host_id == host_id)

    def _candidate(self, row: HostRow) -> Candidate:
        free = row.usable - self.reserved(row.host_id)
        state, alive = row.state.value, self.live(row)
        numbers = (row.usable, free, row.available, row.cores, row.idle)
        draining = row.drain is not None
        return Candidate(row.host_id, row.name, state, row.blocked, alive, *numbers, draining=draining)

    def _want(self, vm: VM, desired: Desired) -> None:
        self.write_vm(vm.vm_id, desired=desired, generation=Generation(vm.generation + 1))

    def _withdraw(self, vm: VM, error: str | None) -> None:
        number = Generation(vm.generation + 1)
        over: dict[str, Any] = {"desired": Desired.STOPPED, "generation": number, "acked": number}
        self.write_vm(
            vm.vm_id, **over, phase="stopped", detail="", last_error=vm.last_error if error is None else error
        )


class SessionStatements(Tables):
    """Those of L{qvd.db.sessions}."""

    def claim(self, spec: SessionSpec, instance: str | None = None) -> SessionId | None:
        host = self.mine(spec.lease.host_id, spec.lease.epoch)
        if host is None or not self.live(host):
            raise Unavailable("This node has lost its place in the farm", retry_after=5)
        older = self.vms[spec.vm_id].vm.session_id
        self.add_session(spec, instance)
        self.write_vm(spec.vm_id, session_id=spec.session_id)
        if older is None or self.sessions[older].ended:
            return None
        self.notify(session_on_host(self.sessions[older].host_id), "")
        return older

    def connected(self, session_id: SessionId) -> None:
        row = self.sessions.get(session_id)
        vm = None if row is None else self.vms[row.vm_id].vm
        if row is None or vm is None or row.state != "connecting" or vm.session_id != session_id:
            raise SessionLost(GONE if self.is_current(session_id) else TAKEN)
        if vm.phase == LOST_PHASE:
            raise SessionLost(GONE)
        self.write_session(session_id, state="connected")

    def is_current(self, session_id: SessionId) -> bool:
        return any(row.vm.session_id == session_id for row in self.vms.values())

    def has_ended(self, session_id: SessionId) -> bool:
        row = self.sessions.get(session_id)
        return row is None or row.ended

    def end(self, session_id: SessionId, reason: str) -> None:
        row = self.sessions.get(session_id)
        if row is not None and not row.ended:
            self.write_session(session_id, state="disconnected", reason=reason)
        for vm_row in list(self.vms.values()):
            if vm_row.vm.session_id == session_id:
                self.write_vm(vm_row.vm.vm_id, session_id=None)

    def unended(self, host_id: HostId, instance: str | None = None) -> Mapping[SessionId, str | None]:
        return {
            row.session_id: self._why_over(row)
            for row in self.sessions.values()
            if row.host_id == host_id and not row.ended and row.instance == instance
        }

    def _why_over(self, row: SessionRow) -> str | None:
        vm = self.vms[row.vm_id].vm
        if vm.session_id == row.session_id:
            return None
        return vm.last_error or GONE if vm.session_id is None and vm.phase == LOST_PHASE else TAKEN

    def add_session(self, spec: SessionSpec, instance: str | None) -> None:
        lease = spec.lease
        row = SessionRow(spec.session_id, spec.vm_id, lease.host_id, lease.epoch, instance=instance)
        self.sessions[spec.session_id] = row


class MemoryDatabase(OwnershipStatements, VMStatements, SessionStatements):
    """All of it."""

    def add_host(self, name: str) -> HostId:
        host_id = HostId(len(self.hosts) + 1)
        self.hosts[host_id] = HostRow(host_id, name)
        return host_id

    def add_vm(self, vm: VM, memory: int) -> None:
        self.vms[vm.vm_id] = VMRow(evolve(vm, since=self.timestamp()), memory)
