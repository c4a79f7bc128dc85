"""The transactions of L{qvd.db.hosts}, L{qvd.db.lost} and L{qvd.db.drain}, as functions of the simulated tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from qvd.model.crashloop import STEADY_SECONDS
from qvd.model.errors import NotFound, OwnershipLost
from qvd.model.host import LOST_PHASE, lost_sentence
from qvd.model.ids import Epoch, Generation, HostId, VMId
from qvd.model.records import (
    Capacity,
    Desired,
    Drain,
    HostState,
    HostStatus,
    Lease,
    LostNode,
    ServerClock,
)
from qvd.model.vm import VMState
from qvd.protocols.channels import host_changed, session_on_host
from tests.world.tables import HostRow, SessionRow, Tables

ALIVE = (HostState.STARTING, HostState.RUNNING, HostState.STOPPING)
GOES_ON = (VMState.STARTING, VMState.RUNNING)


class HostStatements(Tables):
    """Those of L{qvd.db.hosts} and L{qvd.db.lost}."""

    def register(self, name: str, lease_seconds: float, state: HostState = HostState.STARTING) -> Lease:
        for row in self.hosts.values():
            if row.name == name:
                now = self.now()
                new = self.write_host(
                    row.host_id,
                    epoch=Epoch(row.epoch + 1),
                    state=state,
                    ok_ts=now,
                    lease_until=now + lease_seconds,
                )
                return Lease(new.host_id, new.epoch)
        raise NotFound(f"No host is called {name!r} in the database: run qvd-node enrol, or mend nodename in node.conf")

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
        return HostStatus(row.state, row.blocked, row.drain)

    def set_state(self, lease: Lease, state: HostState) -> None:
        if self.mine(lease.host_id, lease.epoch) is None:
            raise OwnershipLost("The lease of this node is over")
        self.write_host(lease.host_id, state=state)

    def set_flags(self, host_id: HostId, drain: Drain | None, blocked: bool) -> None:
        """These alone: what follows is L{drain}."""
        row = self.hosts[host_id]
        if (row.drain, row.blocked) != (drain, blocked):
            self.write_host(host_id, drain=drain, blocked=blocked)
            self.notify(host_changed(host_id), "")

    def drain(self, host_id: HostId) -> int:
        drain = self.hosts[host_id].drain
        if drain is None:
            return 0
        goes_on = [
            row.vm
            for row in self.vms.values()
            if row.vm.host_id == host_id and row.vm.state in GOES_ON and row.vm.desired is Desired.RUNNING
        ]
        done = self.give_up_orders(host_id)
        if drain is Drain.STOP:
            why = f"The node {self.hosts[host_id].name}, on which this desktop was starting, is being drained"
            for vm in goes_on:
                error = why if vm.state is VMState.STARTING else vm.last_error
                generation = Generation(vm.generation + 1)
                self.write_vm(vm.vm_id, desired=Desired.STOPPED, generation=generation, last_error=error)
            done += len(goes_on)
        return done

    def give_up_orders(self, host_id: HostId, only: VMId | None = None) -> int:
        name, ordered = self.hosts[host_id].name, []
        for row in self.vms.values():
            vm = row.vm
            waits = vm.state is VMState.STOPPED and vm.desired is Desired.RUNNING and vm.generation > vm.acked
            if waits and vm.host_id == host_id and only in (None, vm.vm_id):
                ordered.append(vm.vm_id)
        for vm_id in ordered:
            why = f"The node {name}, on which this desktop was to start, is being drained"
            self.write_vm(vm_id, host_id=None, phase=LOST_PHASE, detail="", last_error=why)
        return len(ordered)

    def end_stale_sessions(self, lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        def stale(row: SessionRow) -> bool:
            if row.host_id != lease.host_id or row.ended or row.instance in living:
                return False
            return row.epoch < lease.epoch or (row.epoch == lease.epoch and row.instance is not None)

        ended = {row.session_id for row in self.sessions.values() if stale(row)}
        for session_id in ended:
            self.write_session(session_id, state="disconnected", reason=reason)
        self.free_of_sessions(lambda row: row.session_id in ended)
        return len(ended)

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
        self._cut_relays(host.host_id)
        taken = [row.vm for row in self.vms.values() if row.vm.host_id == host.host_id]
        for vm in taken:
            ran = vm.state is not VMState.STOPPED
            which = "on which this desktop ran" if ran else "on which this desktop was to start"
            steady = vm.state is VMState.RUNNING and vm.since.timestamp() < self.now() - STEADY_SECONDS
            failures = 0 if steady else vm.failures
            changes = self.released(vm) | {"phase": LOST_PHASE, "host_id": None, "failures": failures}
            self.write_vm(vm.vm_id, **changes, last_error=lost_sentence(host.name, which))
        sessions = self.end_sessions_of(host.host_id, lost_sentence(host.name, "which served this session"))
        return LostNode(host.name, len(taken), sessions)

    def _cut_relays(self, host_id: HostId) -> None:
        for row in list(self.vms.values()):
            session = None if row.vm.session_id is None else self.sessions[row.vm.session_id]
            if row.vm.host_id == host_id and session is not None and session.state == "connected":
                if session.host_id != host_id:
                    self.notify(session_on_host(session.host_id), "")
                self.write_vm(row.vm.vm_id, session_id=None)
