"""Rows of the simulated database, and the pieces of statements that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import evolve, frozen

from qvd.model.ids import DIId, Epoch, HostId, SessionId, VMId
from qvd.model.records import VM, Desired, Drain, HostState
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from qvd.protocols.channels import vm_changed, vm_on_host

UNREGISTERED = Epoch(0)


@frozen
class HostRow:
    """C{hosts} and C{host_runtimes}. Times in seconds by the database's clock; L{None} where the column is NULL.

    @ivar server: on which the node has accounted for all that it runs.
    """

    host_id: HostId
    name: str
    state: HostState = HostState.STOPPED
    blocked: bool = False
    epoch: Epoch = UNREGISTERED
    lease_until: float | None = None
    ok_ts: float | None = None
    usable: int = 0
    available: int = 0
    cores: float = 0.0
    idle: float = 0.0
    drain: Drain | None = None
    server: str | None = None


@frozen
class VMRow:
    """C{vms} and C{vm_runtimes}.

    @ivar vm: as the stores hand it out, with L{datetime}s by the database's clock, but for C{retry_in}.
    @ivar memory: bytes that a node reserves for it.
    @ivar imageless: no usable disk image has its tag.
    @ivar ordered_at: when the newest order was given; C{retry_at}: it is not started before this. Both in seconds.
    """

    vm: VM
    memory: int
    secret: Secret | None = None
    di_id: DIId | None = None
    imageless: bool = False
    ordered_at: float = 0.0
    retry_at: float | None = None


@frozen
class SessionRow:
    """C{sessions}."""

    session_id: SessionId
    vm_id: VMId
    host_id: HostId
    epoch: Epoch
    state: str = "connecting"
    reason: str | None = None
    instance: str | None = None

    @property
    def ended(self) -> bool:
        return self.state == "disconnected"


@frozen
class Snapshot:
    """All rows at one moment; rows are values, so that a copy of the dictionaries is enough."""

    at: float
    hosts: dict[HostId, HostRow]
    vms: dict[VMId, VMRow]
    sessions: dict[SessionId, SessionRow]
    servers: dict[str, float]


class Tables:
    """The rows, the clock, and the bells that a commit rings.

    @ivar now: gives the database's time, seconds since the epoch.
    @ivar notify: called with channel and payload for each notification.
    @ivar server: names the run of the server. C{servers}: when a node first reached each, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.notify: Callable[[str, str], None] = lambda channel, payload: None
        self.server = "run 1"
        self.hosts: dict[HostId, HostRow] = {}
        self.vms: dict[VMId, VMRow] = {}
        self.sessions: dict[SessionId, SessionRow] = {}
        self.servers: dict[str, float] = {}

    def snapshot(self) -> Snapshot:
        return Snapshot(self.now(), dict(self.hosts), dict(self.vms), dict(self.sessions), dict(self.servers))

    def restore(self, old: Snapshot) -> None:
        """Be a server that has not heard of anything since."""
        self.hosts, self.vms = dict(old.hosts), dict(old.vms)
        self.sessions, self.servers = dict(old.sessions), dict(old.servers)

    def timestamp(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    def write_host(self, host_id: HostId, **changes: Any) -> HostRow:
        row = self.hosts[host_id] = evolve(self.hosts[host_id], **changes)
        return row

    def write_vm(self, vm_id: VMId, secret: Secret | None = None, di_id: DIId | None = None, /, **changes: Any) -> None:
        """Update the run-time row; as the trigger C{vm_runtimes_changed}, ring for what has changed."""
        row = self.vms[vm_id]
        old, new = row.vm, evolve(row.vm, **changes)
        if new.generation < new.acked or (new.state is not VMState.STOPPED and (not new.host_id or not new.epoch)):
            raise AssertionError(f"the schema does not allow {new}")
        stopped = new.state is VMState.STOPPED
        self.vms[vm_id] = evolve(
            row,
            vm=new,
            secret=None if stopped else secret or row.secret,
            di_id=None if stopped else di_id or row.di_id,
            ordered_at=row.ordered_at if new.generation == old.generation else self.now(),
        )
        if (old.state, old.detail, old.phase, old.generation) != (new.state, new.detail, new.phase, new.generation):
            self.notify(vm_changed(), str(vm_id))
        if (
            new.generation > new.acked
            and new.host_id is not None
            and (old.generation, old.host_id, old.state) != (new.generation, new.host_id, new.state)
        ):
            self.notify(vm_on_host(new.host_id), "")

    def write_session(self, session_id: SessionId, **changes: Any) -> None:
        """Update a session; as the trigger C{sessions_changed}, ring when it ends."""
        old = self.sessions[session_id]
        new = self.sessions[session_id] = evolve(old, **changes)
        if new.ended and not old.ended:
            self.notify(vm_changed(), str(new.vm_id))

    def mine(self, host_id: HostId, epoch: Epoch) -> HostRow | None:
        """The fragment C{MINE} of L{qvd.db.rows}."""
        row = self.hosts.get(host_id)
        return row if row is not None and row.epoch == epoch and row.state is not HostState.LOST else None

    def read_vm(self, row: VMRow) -> VM:
        """The function C{vm_of} of L{qvd.db.rows}."""
        return evolve(row.vm, retry_in=None if row.retry_at is None else max(row.retry_at - self.now(), 0.0))

    def live(self, row: HostRow) -> bool:
        return row.lease_until is not None and row.lease_until > self.now()

    def released(self, vm: VM) -> dict[str, Any]:
        """The fragment C{RELEASED} of L{qvd.db.rows}, for a row as it was."""
        return {
            "state": VMState.STOPPED,
            "detail": "",
            "since": self.timestamp(),
            "guest": None,
            "epoch": None,
            "desired": vm.desired if vm.generation > vm.acked else Desired.STOPPED,
            "acked": vm.acked if vm.desired is Desired.RUNNING else vm.generation,
        }

    def end_sessions_of(self, host_id: HostId, reason: str) -> int:
        """The function of that name in L{qvd.db.sessions}."""
        ended = [row for row in self.sessions.values() if row.host_id == host_id and not row.ended]
        for row in ended:
            self.write_session(row.session_id, state="disconnected", reason=reason)
        self.free_of_sessions(lambda row: row.host_id == host_id and row.ended)
        return len(ended)

    def free_of_sessions(self, over: Callable[[SessionRow], bool]) -> None:
        """No VM has a session any more that is C{over}."""
        for row in list(self.vms.values()):
            if row.vm.session_id is not None and over(self.sessions[row.vm.session_id]):
                self.write_vm(row.vm.vm_id, session_id=None)
