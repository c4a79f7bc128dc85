# -*- test-case-name: tests.unit.test_hkd_queueboard -*-
"""
Shows those who wait for a slot which place they have in the queue.

A queue that moves changes the place of everybody in it, so all that has changed is written in one statement, at most
once a second, and far places are rounded (L{qvd.hkd.wording.rounded}): the writes of a queue grow with its length, not
with its square. Where nobody waits nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from qvd.hkd.periodic import Periodic
from qvd.hkd.slots import Slots
from qvd.hkd.wording import place_in_queue
from qvd.interfaces import IOwnership
from qvd.model.ids import VMId
from qvd.model.records import Lease
from qvd.model.vm import Step

INTERVAL = 1.0
"""Seconds between two looks at the queues."""


class QueueBoard:
    """The places in the queues of one epoch of this node.

    @param node: its name.
    @param step_of: where a VM is; L{None} when it is not carried any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        lease: Lease,
        ownership: IOwnership,
        slots: Slots,
        node: str,
        step_of: Callable[[VMId], Step | None],
    ) -> None:
        self._lease = lease
        self._ownership = ownership
        self._slots = slots
        self._node = node
        self._step_of = step_of
        self._shown: dict[VMId, tuple[str, str]] = {}
        self._looks = Periodic(clock, INTERVAL, self._look, "telling the places in the queues")

    def start(self) -> None:
        self._looks.start()

    async def stop(self) -> None:
        """Returns when the present write is over."""
        await self._looks.stop()

    async def _look(self) -> None:
        places = self._places()
        self._shown = {vm_id: shown for vm_id, shown in self._shown.items() if vm_id in places}
        changed = [(vm_id, *place) for vm_id, place in places.items() if self._shown.get(vm_id) != place]
        if changed:
            # One whose phase is not written yet is told next time.
            for vm_id in await self._ownership.show(self._lease, changed):
                self._shown[vm_id] = places[vm_id]

    def _places(self) -> dict[VMId, tuple[str, str]]:
        """Phase and text of each VM that waits."""
        places = {}
        for work, budget in self._slots.budgets.items():
            for position, slot in enumerate(budget.waiting(), start=1):
                step = self._step_of(slot.vm_id)
                if step is not None:
                    places[slot.vm_id] = (step.value, place_in_queue(position, self._node, work))
        return places
