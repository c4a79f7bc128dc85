"""Each transaction of the stores in C{qvd/db}, as a function of the simulated tables. None of them waits.

L{tests.contract.test_world_stores} runs the same random calls against these and a real PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from attrs import evolve

from qvd.model.account import unix_name
from qvd.model.errors import NotFound, OwnershipLost, SessionLost, Unavailable
from qvd.model.host import LOST_PHASE, lost_sentence
from qvd.model.ids import DIId, Epoch, Generation, HostId, SessionId, VMId
from qvd.model.placement import Candidate, Decision, Weights, decide
from qvd.model.records import (
    VM,
    Capacity,
    Change,
    Desired,
    HostState,
    HostStatus,
    Lease,
    LostNode,
    ServerClock,
    SessionSpec,
    VMSpec,
)
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from qvd.protocols.channels import session_on_host
from tests.world.tables import HostRow, SessionRow, Tables, VMRow

ALIVE = (HostState.STARTING, HostState.RUNNING, HostState.STOPPING)
GOING_DOWN = (VMState.STOPPING, VMState.ZOMBIE)


class HostStatements(Tables):
    """Those of L{qvd.db.hosts} and L{qvd.db.lost}."""

    def register(self, name: str, lease_seconds: float) -> Lease:
        for row in self.hosts.values():
            if row.name == name:
                now = self.now()
                new = self.write_host(
                    row.host_id,
                    epoch=Epoch(row.epoch + 1),
                    state=HostState.STARTING,
                    ok_ts=now,
                    lease_until=now + lease_seconds,
                )
                return Lease(new.host_id, new.epoch)
        raise NotFound(f"No host is called {name!r} in the database: register it, or mend nodename in node.conf")

    def renew(self, lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        row = self.mine(lease.host_id, lease.epoch)
        if row is None or not self.live(row):
            raise OwnershipLost("The lease of this node is over: not renewed in time, or another epoch has begun")
        self.write_host(
            lease.host_id,
            ok_ts=self.now(),
            lease_until=self.now() + lease_seconds,
            usable=capacity.memory,
            available=capacity.available,
            cores=capacity.cpus,
            idle=capacity.idle,
        )
        return HostStatus(row.state, row.blocked)

    def set_state(self, lease: Lease, state: HostState) -> None:
        if self.mine(lease.host_id, lease.epoch) is None:
            raise OwnershipLost("The lease of this node is over")
        self.write_host(lease.host_id, state=state)

    def end_stale_sessions(self, lease: Lease, reason: str) -> int:
        return self.end_sessions_of(lease.host_id, reason, lease.epoch)

    def read_clock(self) -> ServerClock:
        return ServerClock(self.server, self.now())

    def declare_lost(
        self, lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        judge = self.mine(lease.host_id, lease.epoch)
        if judge is None or not self.live(judge) or clock.server != self.server:
            return []
        overdue = [
            row
            for row in sorted(self.hosts.values(), key=lambda row: row.host_id)
            if row.host_id != lease.host_id and self.is_overdue(row, margin_seconds, clock, steady_seconds)
        ]
        return [self._take_from(row) for row in overdue]

    def is_overdue(self, row: HostRow, margin: float, clock: ServerClock, steady: float) -> bool:
        """The fragment C{OVERDUE}, but for the judge's own row."""
        if row.lease_until is None or row.lease_until + margin >= clock.now:
            return False
        if row.ok_ts is not None and row.lease_until - row.ok_ts > steady:
            return False
        return (
            row.state in ALIVE
            or any(other.vm.host_id == row.host_id for other in self.vms.values())
            or any(session.host_id == row.host_id and not session.ended for session in self.sessions.values())
        )

    def _take_from(self, host: HostRow) -> LostNode:
        self.write_host(host.host_id, state=HostState.LOST)
        taken = [row.vm for row in self.vms.values() if row.vm.host_id == host.host_id]
        for vm in taken:
            ran = vm.state is not VMState.STOPPED
            which = "on which this desktop ran" if ran else "on which this desktop was to start"
            changes = self.released(vm) | {"phase": LOST_PHASE, "host_id": None}
            self.write_vm(vm.vm_id, **changes, last_error=lost_sentence(host.name, which))
        sessions = self.end_sessions_of(host.host_id, lost_sentence(host.name, "which served this session"))
        return LostNode(host.name, len(taken), sessions)


class OwnershipStatements(Tables):
    """Those of L{qvd.db.ownership}."""

    def bound(self, lease: Lease) -> Sequence[VM]:
        return [row.vm for row in self.vms.values() if row.vm.host_id == lease.host_id]

    def pending(self, lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        def looks(vm: VM) -> bool:
            mine = vm.epoch == lease.epoch and vm.state is not VMState.STOPPED
            return vm.generation > vm.acked or (mine and (vm.vm_id not in carried or self.goes_on(vm)))

        found = [vm for vm in self.bound(lease) if looks(vm)]
        return sorted(found, key=lambda vm: (vm.desired is Desired.RUNNING, vm.vm_id))

    def goes_on(self, vm: VM) -> bool:
        """Its stop was taken up, and nothing has come of it yet."""
        return vm.desired is Desired.STOPPED and vm.state in (VMState.STARTING, VMState.RUNNING)

    def claim_start(self, lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        row, host = self.vms[vm_id], self.hosts[lease.host_id]
        vm = row.vm
        ordered = vm.host_id == lease.host_id and vm.generation > vm.acked and vm.desired is Desired.RUNNING
        if not ordered or vm.state is not VMState.STOPPED or host.epoch != lease.epoch or not self.live(host):
            return None
        if row.imageless:
            raise NotFound("No usable disk image carries the tag 'default' in 'desk'")
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
        )
        home = f"{vm.tenant_id}/{vm_id}"
        return VMSpec(vm_id, vm.tenant_id, vm.name, unix_name(vm.login), DIId(1), "desk", row.memory, home, secret)

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

    def adopt(self, lease: Lease, vm: VM) -> None:
        row = self.vms[vm.vm_id].vm
        same = row.host_id == lease.host_id and row.epoch is not None and row.epoch == vm.epoch
        if not same or (row.epoch or 0) > lease.epoch:
            raise OwnershipLost(f"VM {vm.vm_id} is not this node's any more")
        self.write_vm(vm.vm_id, epoch=lease.epoch)

    def save(self, lease: Lease, vm_id: VMId, expected: VMState, change: Change) -> None:
        vm = self.owned(lease, vm_id)
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

    def progress(self, lease: Lease, vm_id: VMId, phase: str, detail: str) -> None:
        vm = self.vms[vm_id].vm
        if vm.host_id == lease.host_id and vm.epoch == lease.epoch and vm.phase == phase:
            self.write_vm(vm_id, detail=detail)

    def release(self, lease: Lease, vm_id: VMId, error: str | None) -> None:
        vm = self.owned(lease, vm_id)
        waits = vm.desired is Desired.RUNNING and vm.generation > vm.acked
        changes = self.released(vm) | {"phase": "stopped", "host_id": vm.host_id if waits else None}
        self.write_vm(vm_id, **changes, last_error=vm.last_error if error is None else error)

    def owned(self, lease: Lease, vm_id: VMId) -> VM:
        vm = self.vms[vm_id].vm
        if vm.host_id != lease.host_id or vm.epoch != lease.epoch:
            raise OwnershipLost(f"VM {vm_id} is not this node's any more")
        return vm


class VMStatements(Tables):
    """Those of L{qvd.db.vms}."""

    weights = Weights()
    chance: Callable[[], float] = staticmethod(lambda: 0.5)

    def get(self, vm_id: VMId) -> VM | None:
        row = self.vms.get(vm_id)
        return None if row is None else row.vm

    def order_start(self, vm_id: VMId) -> None:
        vm = self.locked(vm_id)
        if vm.host_id is None:
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
        if vm.desired is Desired.STOPPED:
            self._withdraw(vm, None)
            return False
        decision = self.place(vm_id)
        if decision.host_id is None:
            self._withdraw(self.vms[vm_id].vm, decision.refusal)
        return decision.host_id is not None

    def locked(self, vm_id: VMId) -> VM:
        if vm_id not in self.vms:
            raise NotFound("The requested virtual machine does not exist")
        return self.vms[vm_id].vm

    def place(self, vm_id: VMId) -> Decision:
        hosts = sorted(self.hosts.values(), key=lambda row: row.name)
        decision = decide([self._candidate(row) for row in hosts], self.vms[vm_id].memory, self.weights, self.chance)
        if decision.host_id is None:
            self.write_vm(vm_id, last_error=decision.refusal)
        else:
            number = Generation(self.vms[vm_id].vm.generation + 1)
            order: dict[str, Any] = {"host_id": decision.host_id, "desired": Desired.RUNNING, "generation": number}
            self.write_vm(vm_id, **order, last_error=None, phase="stopped", detail="")
        return decision

    def reserved(self, host_id: HostId) -> int:
        """Bytes."""
        return sum(row.memory for row in self.vms.values() if row.vm.host_id == host_id)

    def _candidate(self, row: HostRow) -> Candidate:
        free = row.usable - self.reserved(row.host_id)
        state, alive = row.state.value, self.live(row)
        return Candidate(
            row.host_id, row.name, state, row.blocked, alive, row.usable, free, row.available, row.cores, row.idle
        )

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

    def claim(self, spec: SessionSpec) -> SessionId | None:
        host = self.mine(spec.lease.host_id, spec.lease.epoch)
        if host is None or not self.live(host):
            raise Unavailable("This node has lost its place in the farm", retry_after=5)
        older = self.vms[spec.vm_id].vm.session_id
        self.add_session(spec)
        self.write_vm(spec.vm_id, session_id=spec.session_id)
        if older is None or self.sessions[older].ended:
            return None
        self.notify(session_on_host(self.sessions[older].host_id), "")
        return older

    def connected(self, session_id: SessionId) -> None:
        row = self.sessions.get(session_id)
        if row is None or row.state != "connecting" or self.vms[row.vm_id].vm.session_id != session_id:
            raise SessionLost("Another client has taken this virtual machine over")
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

    def unended(self, host_id: HostId) -> Mapping[SessionId, bool]:
        return {
            row.session_id: self.vms[row.vm_id].vm.session_id == row.session_id
            for row in self.sessions.values()
            if row.host_id == host_id and not row.ended
        }

    def add_session(self, spec: SessionSpec) -> None:
        self.sessions[spec.session_id] = SessionRow(spec.session_id, spec.vm_id, spec.lease.host_id, spec.lease.epoch)


class MemoryDatabase(HostStatements, OwnershipStatements, VMStatements, SessionStatements):
    """All of it."""

    def add_host(self, name: str) -> HostId:
        host_id = HostId(len(self.hosts) + 1)
        self.hosts[host_id] = HostRow(host_id, name)
        return host_id

    def add_vm(self, vm: VM, memory: int) -> None:
        self.vms[vm.vm_id] = VMRow(evolve(vm, since=self.timestamp()), memory)
