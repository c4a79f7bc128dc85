"""Places in the queues get into the rows: those that have changed, in one statement a second."""

from __future__ import annotations

from twisted.internet.task import Clock

from qvd.hkd.queueboard import INTERVAL, QueueBoard
from qvd.hkd.slots import Slot, Slots, SlotSizes
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import Epoch, TenantId, VMId
from qvd.model.records import Desired, Lease
from qvd.model.vm import Step, VMState, Work
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.ownership import HOST, FakeOwnership, Rows, vm_row

LEASE = Lease(HOST, Epoch(4))
VMS = 500


class QueueBoardTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        waiting = {"state": VMState.STARTING, "desired": Desired.RUNNING, "host_id": HOST, "epoch": LEASE.epoch}
        self.rows = Rows(*(vm_row(number, phase=Step.PREPARED.value, **waiting) for number in range(1, VMS + 1)))
        self.slots = Slots(SlotSizes(boot=1))
        self.steps = {VMId(number): Step.PREPARED for number in range(1, VMS + 1)}
        self.ownership = FakeOwnership(self.rows, self.conduct)
        self.board = QueueBoard(self.clock, LEASE, self.ownership, self.slots, "n2", self.steps.get)

    def queue(self, length: int) -> list[Slot]:
        """So many in the queue behind one that has the slot."""
        budget = self.slots.budgets[Work.BOOT]
        return [budget.ask(VMId(number), TenantId(1)) for number in range(1, length + 2)]

    def written(self) -> list[int]:
        """How many rows each statement was for."""
        return [len(texts) for texts in self.ownership.shown]

    def test_nobody_waits_and_nothing_is_written(self) -> None:
        self.queue(0)
        self.board.start()
        self.clock.pump([INTERVAL] * 100)
        assert self.written() == []

    def test_places_are_written_together_and_once(self) -> None:
        self.queue(3)
        self.board.start()
        self.clock.pump([INTERVAL] * 5)
        assert self.written() == [3]
        assert self.rows[3].detail == "Position 2 in the queue of node n2, waiting to boot"

    def test_a_queue_that_moves_is_told_again(self) -> None:
        slots = self.queue(3)
        self.board.start()
        slots[0].leave()
        self.clock.advance(INTERVAL)
        assert self.written() == [3, 2]
        assert self.rows[3].detail == "Position 1 in the queue of node n2, waiting to boot"

    def test_a_burst_of_changes_is_one_statement(self) -> None:
        slots = self.queue(9)
        self.board.start()
        for slot in slots[:5]:
            slot.leave()
        self.clock.advance(INTERVAL)
        assert len(self.written()) == 2

    def test_one_whose_phase_is_not_written_yet_is_told_next_time(self) -> None:
        self.queue(1)
        self.rows.write(2, phase=Step.PREPARE.value)
        self.board.start()
        assert self.rows[2].detail == ""
        self.rows.write(2, phase=Step.PREPARED.value)
        self.clock.advance(INTERVAL)
        assert self.rows[2].detail.startswith("Position 1 ")

    def test_a_database_that_was_away_is_told_next_time(self) -> None:
        self.queue(1)
        self.conduct.fail("show", DatabaseUnavailable("away"))
        self.board.start()
        self.clock.advance(INTERVAL)
        assert self.rows[2].detail.startswith("Position 1 ")

    def test_one_that_nobody_carries_any_more_is_left_alone(self) -> None:
        self.queue(2)
        del self.steps[VMId(2)]
        self.board.start()
        assert [[vm_id for vm_id, _, _ in texts] for texts in self.ownership.shown] == [[3]]

    def test_the_writes_of_a_queue_do_not_grow_as_its_square(self) -> None:
        slots = self.queue(VMS - 1)
        self.board.start()
        for slot in slots:
            slot.leave()
            self.clock.advance(INTERVAL)
        # The square would be a quarter of a million; each VM has twenty exact places and a dozen or two far ones.
        assert VMS < sum(self.written()) < 60 * VMS

    def test_it_stops(self) -> None:
        self.queue(1)
        self.board.start()
        self.result(self.board.stop())
        assert self.clock.getDelayedCalls() == []
