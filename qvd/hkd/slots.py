# -*- test-case-name: tests.unit.test_hkd_slots -*-
"""
How much a node does at a time: budgets of slots, and the queues in front of them.

Within a tenant whoever comes first is served first; the tenants take turns, so that a thousand log-ins of one do not
keep another one's single user waiting. A slot, and a place in a queue, belong to whoever asked until they are left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen
from twisted.internet.defer import Deferred

from qvd.model.ids import TenantId, VMId
from qvd.model.vm import Work


@frozen
class SlotSizes:
    """How many VMs at a time.

    @ivar unpack: are made ready: their images unpacked.
    @ivar boot: boot, until the guest's agent answers.
    @ivar stop: are ended, until nothing of them is left.
    """

    unpack: int = 2
    boot: int = 10
    stop: int = 10


class Slot:
    """One VM's, from the question for it until L{leave}: first a place in the queue, then the slot itself.

    @ivar granted: it has the slot.
    """

    def __init__(self, budget: Budget, vm_id: VMId, tenant_id: TenantId) -> None:
        self.vm_id = vm_id
        self.tenant_id = tenant_id
        self.granted = False
        self._budget = budget
        self._left = False
        self._waiter: Deferred[None] | None = None

    @property
    def work(self) -> Work:
        return self._budget.work

    @property
    def position(self) -> int:
        """1 for the one that is next; 0 once it is granted, or left."""
        if self.granted or self._left:
            return 0
        return self._budget.waiting().index(self) + 1

    async def wait(self) -> None:
        """Return when it is granted. One wait at a time; cancelling it leaves the place in the queue alone."""
        if self.granted:
            return
        self._waiter = Deferred()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def leave(self) -> None:
        """Give the slot back, or leave the queue. Idempotent."""
        if not self._left:
            self._left = True
            self._budget.leave(self)

    def force(self) -> None:
        """Have the slot now, even if that makes one too many. No effect on one that is granted, or left."""
        if not self.granted and not self._left:
            self._budget.force(self)

    def grant(self) -> None:
        """Called by the budget."""
        self.granted = True
        if self._waiter is not None:
            self._waiter.callback(None)


class Budget:
    """A number of slots for one kind of work."""

    def __init__(self, work: Work, size: int) -> None:
        self.work = work
        self._size = size
        self._used: set[Slot] = set()
        self._queues: dict[TenantId, dict[Slot, None]] = {}
        self._turns: deque[TenantId] = deque()
        self._lifted = False
        self._granting = False

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return len(self._used)

    def waiting(self) -> Sequence[Slot]:
        """Those without a slot, in the order in which they will get one."""
        return list(self._in_turn())

    def ask(self, vm_id: VMId, tenant_id: TenantId) -> Slot:
        """A slot, if one is free; else a place in the queue."""
        slot = Slot(self, vm_id, tenant_id)
        self._line_up(slot)
        self._grant()
        return slot

    def take(self, vm_id: VMId, tenant_id: TenantId) -> Slot:
        """A slot at once, even if that makes one too many: for work that goes on already."""
        slot = Slot(self, vm_id, tenant_id)
        self._used.add(slot)
        slot.grant()
        return slot

    def lift(self) -> None:
        """Let nobody wait any more."""
        self._lifted = True
        self._grant()

    def leave(self, slot: Slot) -> None:
        """Called by the slot."""
        if slot.granted:
            self._used.discard(slot)
            self._grant()
        else:
            self._drop(slot)

    def force(self, slot: Slot) -> None:
        """Called by the slot."""
        self._drop(slot)
        self._used.add(slot)
        slot.grant()

    def _grant(self) -> None:
        # Whoever gets a slot may fail and leave it before this returns: a loop, where it would be a recursion as deep
        # as the queue is long.
        if self._granting:
            return
        self._granting = True
        try:
            while self._turns and (self._lifted or len(self._used) < self._size):
                tenant_id = self._turns[0]
                slot = next(iter(self._queues[tenant_id]))
                self._drop(slot)
                if tenant_id in self._queues:
                    self._turns.rotate(-1)
                self._used.add(slot)
                slot.grant()
        finally:
            self._granting = False

    def _line_up(self, slot: Slot) -> None:
        if slot.tenant_id not in self._queues:
            self._queues[slot.tenant_id] = {}
            self._turns.append(slot.tenant_id)
        self._queues[slot.tenant_id][slot] = None

    def _drop(self, slot: Slot) -> None:
        queue = self._queues[slot.tenant_id]
        del queue[slot]
        if not queue:
            del self._queues[slot.tenant_id]
            self._turns.remove(slot.tenant_id)

    def _in_turn(self) -> Iterator[Slot]:
        queues = [iter(self._queues[tenant_id]) for tenant_id in self._turns]
        while queues:
            left = []
            for queue in queues:
                slot = next(queue, None)
                if slot is not None:
                    yield slot
                    left.append(queue)
            queues = left


class Slots:
    """The budgets of a node."""

    def __init__(self, sizes: SlotSizes = SlotSizes()) -> None:
        self.sizes = sizes
        self.budgets: Mapping[Work, Budget] = {
            Work.UNPACK: Budget(Work.UNPACK, sizes.unpack),
            Work.BOOT: Budget(Work.BOOT, sizes.boot),
            Work.STOP: Budget(Work.STOP, sizes.stop),
        }

    def fresh(self) -> Slots:
        """As many slots, all free: for another epoch."""
        return Slots(self.sizes)
