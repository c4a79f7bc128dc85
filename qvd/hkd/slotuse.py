# -*- test-case-name: tests.unit.test_hkd_runner -*-
"""The slot of one VM, as it goes through its steps."""

from __future__ import annotations

from qvd.hkd.slots import Slot, Slots
from qvd.hkd.wording import DETAIL, place_in_queue
from qvd.model.ids import TenantId, VMId
from qvd.model.vm import QUEUES, WORK, Event, Position, Step, Work, advance


class SlotUse:
    """Has at most one slot, or place in a queue, at a time: that of the present step.

    @param node: name of this node.
    @ivar told: the row shows, or may show, a place in the queue of the present step.
    """

    def __init__(self, slots: Slots, node: str, vm_id: VMId, tenant_id: TenantId) -> None:
        self._slots = slots
        self._node = node
        self._vm_id = vm_id
        self._tenant_id = tenant_id
        self._slot: Slot | None = None
        self.told = False

    @property
    def waits(self) -> bool:
        """There is a place in a queue, and no slot yet."""
        return self._slot is not None and not self._slot.granted

    def line_up(self, at: Position) -> Position:
        """A step is entered: give back what was held for the one before, and ask for what a waiting one needs.

        @return: the position after it, where that is free: the wait is over before it is begun.
        """
        self.told = False
        work = WORK[at.step]
        if self._slot is not None and self._slot.work is not work:
            self.give_back()
        if at.step in QUEUES and work is not None:
            self._slot = self._slots.budgets[work].ask(self._vm_id, self._tenant_id)
            if self._slot.granted:
                return advance(at, Event.DONE)
        return at

    def occupy(self, step: Step) -> None:
        """The step is to begin: have a slot of its budget, or a place in the queue, where there is none yet."""
        work = WORK[step]
        if self._slot is None and work is not None:
            budget = self._slots.budgets[work]
            # What was found booting boots: nobody asks whether it may.
            ask = budget.ask if work is Work.STOP else budget.take
            self._slot = ask(self._vm_id, self._tenant_id)
        self.told = self.told or self.waits

    async def wait(self) -> None:
        """Return when there is a slot."""
        if self._slot is not None:
            await self._slot.wait()

    def force(self) -> None:
        """Wait no longer: have the slot, even if that makes one too many."""
        if self._slot is not None:
            self._slot.force()

    def give_back(self) -> None:
        """Have no slot any more, and no place in a queue."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.leave()

    def detail(self, step: Step) -> str:
        """What the row says of the step."""
        slot = self._slot
        self.told = self.waits
        if slot is None or slot.granted:
            return DETAIL[step]
        return place_in_queue(slot.position, self._node, slot.work)
