"""The ports of the database, over a line to the simulated one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IExpiry, IHostImages, IHosts, IOwnership, ISessions, IVMs
from qvd.model.crashloop import Ending
from qvd.model.expiry import Expiring, Notice
from qvd.model.ids import DIId, Generation, HostId, Run, SessionId, UserId, VMId
from qvd.model.records import (
    VM,
    Capacity,
    Change,
    Explanation,
    Held,
    HostState,
    HostStatus,
    Lease,
    LostNode,
    RegisteredImage,
    ServerClock,
    SessionSpec,
    VMSpec,
    VMSummary,
)
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.world.line import Line
from tests.world.statements import MemoryDatabase


@implementer(IHosts)
@frozen
class LineHosts:
    """L{IHosts}."""

    line: Line
    db: MemoryDatabase

    async def register(
        self,
        name: str,
        address: str,
        lease_seconds: float,
        hypervisor: str | None = None,
        state: HostState = HostState.STARTING,
    ) -> Lease:
        return await self.line.call("register", lambda: self.db.register(name, lease_seconds, state))

    async def renew(self, lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        return await self.line.call("renew", lambda: self.db.renew(lease, lease_seconds, capacity))

    async def set_state(self, lease: Lease, state: HostState) -> None:
        await self.line.call("set_state", lambda: self.db.set_state(lease, state))

    async def drain(self, lease: Lease) -> int:
        return await self.line.call("drain", lambda: self.db.drain(lease.host_id))

    async def end_stale_sessions(self, lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        return await self.line.call("end_stale_sessions", lambda: self.db.end_stale_sessions(lease, reason, living))

    async def read_clock(self) -> ServerClock:
        return await self.line.call("read_clock", self.db.read_clock)

    async def declare_lost(
        self, lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        def work() -> Sequence[LostNode]:
            return self.db.declare_lost(lease, margin_seconds, clock, steady_seconds)

        return await self.line.call("declare_lost", work)


@implementer(IOwnership)
@frozen
class LineOwnership:
    """L{IOwnership}."""

    line: Line
    db: MemoryDatabase

    async def bound(self, lease: Lease) -> Sequence[VM]:
        return await self.line.call("bound", lambda: self.db.bound(lease))

    async def pending(self, lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        sent = set(carried)
        return await self.line.call("pending", lambda: self.db.pending(lease, sent))

    async def account(self, lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        return await self.line.call("account", lambda: self.db.account(lease, held))

    async def claim_start(self, lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        return await self.line.call("claim_start", lambda: self.db.claim_start(lease, vm_id, secret))

    async def refuse(self, lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        await self.line.call("refuse", lambda: self.db.refuse(lease, vm_id, generation, error))

    async def acknowledge(self, lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        return await self.line.call("acknowledge", lambda: self.db.acknowledge(lease, vm_id, generation))

    async def adopt(self, lease: Lease, vm: VM, again: bool = False) -> None:
        await self.line.call("adopt", lambda: self.db.adopt(lease, vm, again))

    async def save(self, lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        await self.line.call("save", lambda: self.db.save(lease, vm_id, expected, change, run))

    async def progress(self, lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        await self.line.call("progress", lambda: self.db.progress(lease, vm_id, phase, detail, run))

    async def show(self, lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        return await self.line.call("show", lambda: self.db.show(lease, texts))

    async def seen(self, lease: Lease, vm_ids: Sequence[VMId]) -> None:
        """The column that it writes decides nothing, and is not there."""
        await self.line.call("seen", lambda: None)

    async def release(
        self,
        lease: Lease,
        vm_id: VMId,
        error: str | None,
        ending: Ending = Ending.NEUTRAL,
        run: Run | None = None,
    ) -> None:
        await self.line.call("release", lambda: self.db.release(lease, vm_id, error, ending, run))


@implementer(IVMs)
@frozen
class LineVMs:
    """L{IVMs}."""

    line: Line
    db: MemoryDatabase

    async def list_for_user(self, user_id: UserId, applications: bool) -> Sequence[VMSummary]:
        def work() -> Sequence[VMSummary]:
            mine = [row.vm for row in self.db.vms.values() if row.vm.user_id == user_id]
            return [VMSummary(vm.vm_id, vm.name, vm.state, vm.blocked, applications) for vm in mine]

        return await self.line.call("list_for_user", work)

    async def get(self, vm_id: VMId) -> VM | None:
        return await self.line.call("get", lambda: self.db.get(vm_id))

    async def properties(self, vm_id: VMId) -> Mapping[str, str]:
        nothing: dict[str, str] = {}
        return await self.line.call("properties", lambda: nothing)

    async def explain(self, vm_id: VMId) -> Explanation | None:
        vm = await self.get(vm_id)
        return None if vm is None else Explanation(vm, "demo", None, None)

    async def order_start(self, vm_id: VMId, cause: str) -> None:
        await self.line.call("order_start", lambda: self.db.order_start(vm_id))

    async def order_stop(self, vm_id: VMId, cause: str) -> None:
        await self.line.call("order_stop", lambda: self.db.order_stop(vm_id))

    async def unplaced(self) -> Sequence[VMId]:
        return await self.line.call("unplaced", self.db.unplaced)

    async def place_again(self, vm_id: VMId, cause: str) -> bool:
        return await self.line.call("place_again", lambda: self.db.place_again(vm_id))

    async def reset_failures(self, vm_id: VMId, cause: str) -> None:
        await self.line.call("reset_failures", lambda: self.db.reset_failures(vm_id))


@implementer(ISessions)
@frozen
class LineSessions:
    """L{ISessions}."""

    line: Line
    db: MemoryDatabase
    instance: str

    async def claim(self, spec: SessionSpec) -> SessionId | None:
        return await self.line.call("claim", lambda: self.db.claim(spec, self.instance))

    async def connected(self, session_id: SessionId) -> None:
        await self.line.call("connected", lambda: self.db.connected(session_id))

    async def is_current(self, session_id: SessionId) -> bool:
        return await self.line.call("is_current", lambda: self.db.is_current(session_id))

    async def has_ended(self, session_id: SessionId) -> bool:
        return await self.line.call("has_ended", lambda: self.db.has_ended(session_id))

    async def end(self, session_id: SessionId, reason: str) -> None:
        await self.line.call("end", lambda: self.db.end(session_id, reason))

    async def unended(self, host_id: HostId) -> Mapping[SessionId, str | None]:
        return await self.line.call("unended", lambda: self.db.unended(host_id, self.instance))


@implementer(IHostImages)
@frozen
class LineHostImages:
    """L{IHostImages} of a farm whose VMs boot from the files of the hosts."""

    line: Line

    async def registered(self, lease: Lease) -> Sequence[RegisteredImage]:
        nothing: list[RegisteredImage] = []
        return await self.line.call("registered", lambda: nothing)

    async def publish(self, lease: Lease, seen: Collection[DIId]) -> None:
        await self.line.call("publish", lambda: None)


@implementer(IExpiry)
@frozen
class LineExpiry:
    """L{IExpiry} of a farm in which nothing expires."""

    line: Line

    async def expiring(self, lease: Lease) -> Sequence[Expiring]:
        nothing: list[Expiring] = []
        return await self.line.call("expiring", lambda: nothing)

    async def told(self, lease: Lease, vm_id: VMId, notice: Notice, text: str) -> None:
        raise AssertionError("there is nothing to tell")

    async def stop_due(self, lease: Lease) -> Sequence[VMId]:
        raise AssertionError("there is nothing to stop")
