"""The rows of VMs, in memory, with the guards of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from zope.interface import implementer

from qvd.interfaces import IOwnership, IVMs
from qvd.model.crashloop import Ending, back_off, check_back_off
from qvd.model.errors import NotFound, OwnershipLost
from qvd.model.host import LOST_PHASE, lost_sentence
from qvd.model.ids import Epoch, Generation, HostId, Run, TenantId, UserId, VMId
from qvd.model.records import VM, Change, Desired, Explanation, Held, Lease, VMSpec, VMSummary
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.fakes.conduct import Conduct

HOST = HostId(7)


def vm_row(vm_id: int = 1, **changes: Any) -> VM:
    """A stopped VM that nobody wants to run."""
    vm = VM(
        vm_id=VMId(vm_id),
        tenant_id=TenantId(1),
        user_id=UserId(3),
        name=f"vm{vm_id}",
        login="alice",
        blocked=False,
        state=VMState.STOPPED,
        desired=Desired.STOPPED,
        generation=Generation(0),
        acked=Generation(0),
        host_id=None,
        epoch=None,
        phase="stopped",
        detail="",
        last_error=None,
        guest=None,
        session_id=None,
        since=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return evolve(vm, **changes)


def spec_of(vm: VM, secret: Secret) -> VMSpec:
    """What to boot for a row."""
    return VMSpec(vm.vm_id, vm.tenant_id, vm.name, vm.login, None, "image", 1 << 29, f"1/{vm.vm_id}", secret, vm.run)


def goes_on(vm: VM) -> bool:
    """Its stop was taken up, and nothing has come of it yet."""
    return vm.desired is Desired.STOPPED and vm.state in (VMState.STARTING, VMState.RUNNING)


class Rows:
    """The table, and what others do to it.

    @ivar changed: called with the id of each row written.
    @ivar imageless: VMs without an image to boot.
    @ivar full: no node can take another VM.
    @ivar draining: the node is to get empty.
    """

    def __init__(self, *vms: VM) -> None:
        self.table = {vm.vm_id: vm for vm in vms}
        self.changed: Callable[[VMId], None] = lambda vm_id: None
        self.imageless: set[VMId] = set()
        self.full = False
        self.draining = False

    def __getitem__(self, vm_id: int) -> VM:
        return self.table[VMId(vm_id)]

    def write(self, vm_id: int, **changes: Any) -> None:
        self.table[VMId(vm_id)] = evolve(self[vm_id], **changes)
        self.changed(VMId(vm_id))

    def order(self, vm_id: int, desired: Desired) -> None:
        """Somebody wants something of a VM; one without a node gets L{HOST}."""
        vm = self[vm_id]
        changes: dict[str, Any] = {} if vm.host_id else {"host_id": HOST, "phase": "stopped", "last_error": None}
        self.write(vm_id, desired=desired, generation=vm.generation + 1, **changes)

    def lose_node(self, vm_id: int) -> None:
        """The node that has the VM is declared lost."""
        vm = self[vm_id]
        waits = vm.desired is Desired.RUNNING and vm.generation > vm.acked
        self.write(
            vm_id,
            state=VMState.STOPPED,
            phase=LOST_PHASE,
            detail="",
            guest=None,
            host_id=None,
            epoch=None,
            last_error=lost_sentence("n1", "on which this desktop ran"),
            desired=vm.desired if waits else Desired.STOPPED,
            acked=vm.acked if waits else vm.generation,
        )


def counted(vm: VM, ending: Ending) -> dict[str, Any]:
    """What the end of a run makes of its failures. No time passes here: a back-off lasts until it is written away."""
    match ending:
        case Ending.FAILED:
            return {"failures": vm.failures + 1, "retry_in": back_off(vm.failures + 1) or None}
        case Ending.SETTLED:
            return {"failures": 0, "retry_in": None}
        case Ending.NEUTRAL:
            return {}


@implementer(IOwnership)
class FakeOwnership:
    """L{IOwnership} over L{Rows}.

    @ivar saves: VM, expected state and change of each write that went through.
    @ivar familiar: the server is the one on which all has been accounted for.
    """

    def __init__(self, rows: Rows, conduct: Conduct | None = None) -> None:
        self.rows = rows
        self.conduct = conduct or Conduct()
        self.saves: list[tuple[VMId, VMState, Change]] = []
        self.texts: list[tuple[VMId, str, str]] = []
        self.shown: list[Sequence[tuple[VMId, str, str]]] = []
        self.seen_together: list[Sequence[VMId]] = []
        self.familiar = True

    async def bound(self, lease: Lease) -> Sequence[VM]:
        await self.conduct.before("bound")
        return [vm for vm in self.rows.table.values() if vm.host_id == lease.host_id]

    async def pending(self, lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        await self.conduct.before("pending")
        mine = [vm for vm in self.rows.table.values() if vm.host_id == lease.host_id]
        left = [vm for vm in mine if vm.epoch and vm.epoch <= lease.epoch and vm.state is not VMState.STOPPED]
        left = [vm for vm in left if vm.vm_id not in carried or goes_on(vm)]
        ordered = [
            vm for vm in mine if vm.generation > vm.acked and not (vm.desired is Desired.RUNNING and vm.retry_in)
        ]
        found = [vm for vm in mine if vm in ordered or vm in left]
        await self.conduct.after("pending")
        return found

    async def account(self, lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        await self.conduct.before("account")
        return [each.vm_id for each in held if not self._granted(lease, each)]

    def _granted(self, lease: Lease, held: Held) -> bool:
        vm = self.rows[held.vm_id]
        mine = (vm.host_id, vm.epoch) == (lease.host_id, lease.epoch) and vm.state is not VMState.STOPPED
        same = held.run in (None, vm.run)
        return mine and same and (self.familiar or held.state in (None, vm.state))

    async def claim_start(self, lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        await self.conduct.before("claim_start", vm_id)
        vm = self.rows[vm_id]
        pending = vm.host_id == lease.host_id and vm.generation > vm.acked
        if not pending or vm.desired is not Desired.RUNNING or vm.state is not VMState.STOPPED:
            return None
        if self.rows.draining:
            self.rows.write(vm_id, host_id=None, phase=LOST_PHASE, detail="", last_error="The node is being drained")
            return None
        if vm_id in self.rows.imageless:
            raise NotFound("No usable disk image")
        self.rows.write(
            vm_id,
            state=VMState.STARTING,
            phase="preparing",
            acked=vm.generation,
            epoch=lease.epoch,
            last_error=None,
            run=Run(vm.run + 1),
        )
        await self.conduct.after("claim_start")
        return spec_of(self.rows[vm_id], secret)

    async def refuse(self, lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        await self.conduct.before("refuse", vm_id, generation, error)
        if self.rows[vm_id].generation == generation:
            self.rows.write(vm_id, desired=Desired.STOPPED, acked=generation, host_id=None, last_error=error)

    async def acknowledge(self, lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        await self.conduct.before("acknowledge", vm_id, generation)
        vm = self.rows[vm_id]
        if vm.host_id != lease.host_id or vm.generation != generation:
            return False
        free = vm.state is VMState.STOPPED and vm.desired is Desired.STOPPED
        self.rows.write(vm_id, acked=generation, host_id=None if free else vm.host_id)
        await self.conduct.after("acknowledge")
        return True

    async def adopt(self, lease: Lease, vm: VM, again: bool = False) -> None:
        await self.conduct.before("adopt", vm.vm_id)
        row = self.rows[vm.vm_id]
        if (row.host_id, row.epoch, row.run) != (lease.host_id, vm.epoch, vm.run):
            raise OwnershipLost("not this node's any more")
        acked = min(row.acked, Generation(row.generation - 1)) if again else row.acked
        self.rows.write(vm.vm_id, epoch=lease.epoch, acked=acked)
        await self.conduct.after("adopt")

    async def save(self, lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        await self.conduct.before("save", vm_id, expected, change)
        vm = self._owned(lease, vm_id, run)
        # A write whose answer was lost is repeated: the row then has the new state already.
        if vm.state not in (expected, change.state):
            raise OwnershipLost(f"VM {vm_id} is {vm.state.value}")
        self.rows.write(
            vm_id,
            state=change.state,
            phase=change.phase,
            detail=change.detail,
            guest=change.guest or vm.guest,
            last_error=change.error or vm.last_error,
        )
        self.saves.append((vm_id, expected, change))
        await self.conduct.after("save")

    async def progress(self, lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        await self.conduct.before("progress", vm_id, phase, detail)
        self.texts.append((vm_id, phase, detail))

    async def show(self, lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        self.shown.append(texts)
        await self.conduct.before("show", texts)
        current = [(vm_id, text) for vm_id, phase, text in texts if self.rows[vm_id].phase == phase]
        for vm_id, text in current:
            self.rows.write(vm_id, detail=text)
        return {vm_id for vm_id, _ in current}

    async def seen(self, lease: Lease, vm_ids: Sequence[VMId]) -> None:
        await self.conduct.before("seen", vm_ids)
        self.seen_together.append(vm_ids)

    async def release(
        self,
        lease: Lease,
        vm_id: VMId,
        error: str | None,
        ending: Ending = Ending.NEUTRAL,
        run: Run | None = None,
    ) -> None:
        await self.conduct.before("release", vm_id, error)
        vm = self._owned(lease, vm_id, run)
        waits = vm.desired is Desired.RUNNING and vm.generation > vm.acked
        self.rows.write(
            vm_id,
            state=VMState.STOPPED,
            phase="stopped",
            detail="",
            guest=None,
            epoch=None,
            last_error=error or vm.last_error,
            host_id=vm.host_id if waits else None,
            desired=Desired.RUNNING if waits else Desired.STOPPED,
            acked=vm.acked if waits else vm.generation,
            **counted(vm, ending),
        )
        await self.conduct.after("release")

    def _owned(self, lease: Lease, vm_id: VMId, run: Run | None) -> VM:
        vm = self.rows[vm_id]
        if vm.host_id != lease.host_id or vm.epoch != lease.epoch or run not in (None, vm.run):
            raise OwnershipLost(f"VM {vm_id} is not this node's any more")
        return vm

    def take_away(self, vm_id: int) -> None:
        """Another node has it."""
        self.rows.write(vm_id, host_id=HostId(8), epoch=Epoch(99))


@implementer(IVMs)
class FakeVMs:
    """L{IVMs} over the same rows.

    @ivar told: what guests are told of properties.
    """

    def __init__(self, rows: Rows, conduct: Conduct | None = None) -> None:
        self.rows = rows
        self.conduct = conduct or Conduct()
        self.told: dict[str, str] = {}

    async def properties(self, vm_id: VMId) -> Mapping[str, str]:
        await self.conduct.before("properties", vm_id)
        return self.told

    async def list_for_user(self, user_id: UserId, applications: bool) -> Sequence[VMSummary]:
        await self.conduct.before("list_for_user", user_id, applications)
        mine = [vm for vm in self.rows.table.values() if vm.user_id == user_id]
        return [VMSummary(vm.vm_id, vm.name, vm.state, vm.blocked, applications) for vm in mine]

    async def get(self, vm_id: VMId) -> VM | None:
        vm = self.rows.table.get(vm_id)
        await self.conduct.before("get", vm_id)
        return vm

    async def explain(self, vm_id: VMId) -> Explanation | None:
        await self.conduct.before("explain", vm_id)
        vm = self.rows.table.get(vm_id)
        return None if vm is None else Explanation(vm, "demo", None, None)

    async def order_start(self, vm_id: VMId, cause: str) -> None:
        await self.conduct.before("order_start", vm_id, cause)
        vm = self.rows[vm_id]
        dying = vm.state in (VMState.STOPPING, VMState.ZOMBIE) and vm.generation == vm.acked
        if vm.host_id is None:
            check_back_off(vm)
        if vm.host_id is None or vm.desired is not Desired.RUNNING or dying:
            self.rows.order(vm_id, Desired.RUNNING)

    async def order_stop(self, vm_id: VMId, cause: str) -> None:
        await self.conduct.before("order_stop", vm_id, cause)
        if self.rows[vm_id].desired is Desired.STOPPED:
            return
        if self.rows[vm_id].host_id is None:
            self._withdraw(vm_id)
        else:
            self.rows.order(vm_id, Desired.STOPPED)

    async def unplaced(self) -> Sequence[VMId]:
        await self.conduct.before("unplaced")
        return [vm.vm_id for vm in self.rows.table.values() if vm.host_id is None and vm.generation > vm.acked]

    async def place_again(self, vm_id: VMId, cause: str) -> bool:
        await self.conduct.before("place_again", vm_id, cause)
        if vm_id not in await self.unplaced():
            return False
        if self.rows[vm_id].retry_in:
            self._withdraw(vm_id)
            return False
        if self.rows.full:
            self._withdraw(vm_id, last_error="No node can take this virtual machine")
            return False
        self.rows.order(vm_id, Desired.RUNNING)
        return True

    async def reset_failures(self, vm_id: VMId, cause: str) -> None:
        await self.conduct.before("reset_failures", vm_id, cause)
        if vm_id not in self.rows.table:
            raise NotFound("The requested virtual machine does not exist")
        self.rows.write(vm_id, failures=0, retry_in=None)

    def _withdraw(self, vm_id: VMId, **changes: Any) -> None:
        number = Generation(self.rows[vm_id].generation + 1)
        self.rows.write(vm_id, desired=Desired.STOPPED, generation=number, acked=number, phase="stopped", **changes)
