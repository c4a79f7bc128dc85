"""Budgets: never more than so many, in turn between tenants, and nothing leaks, whoever leaves when."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from twisted.internet.defer import CancelledError, Deferred

from qvd.hkd.slots import Budget, Slot, Slots, SlotSizes
from qvd.model.ids import TenantId, VMId
from qvd.model.vm import Work
from tests.fakes.case import Case

ACME, UMBRELLA = TenantId(1), TenantId(2)


class BudgetTests(Case):
    def setUp(self) -> None:
        self.budget = Budget(Work.BOOT, 1)
        self.number = 0

    def ask(self, tenant: TenantId = ACME) -> Slot:
        self.number += 1
        return self.budget.ask(VMId(self.number), tenant)

    def waiting(self) -> list[int]:
        return [slot.vm_id for slot in self.budget.waiting()]

    def test_a_free_slot_is_had_at_once(self) -> None:
        slot = self.ask()
        assert (slot.granted, slot.position, self.budget.used) == (True, 0, 1)
        self.result(Deferred.fromCoroutine(slot.wait()))

    def test_who_comes_first_is_served_first(self) -> None:
        slots = [self.ask() for _ in range(4)]
        assert [slot.position for slot in slots] == [0, 1, 2, 3]
        slots[0].leave()
        assert [slot.granted for slot in slots[1:]] == [True, False, False]
        assert [slot.position for slot in slots] == [0, 0, 1, 2]

    def test_tenants_take_turns(self) -> None:
        first = self.ask()
        many = [self.ask(ACME) for _ in range(3)]
        few = self.ask(UMBRELLA)
        assert [slot.position for slot in (*many, few)] == [1, 3, 4, 2]
        first.leave()
        many[0].leave()
        assert few.granted
        assert self.waiting() == [many[1].vm_id, many[2].vm_id]

    def test_a_tenant_that_comes_back_is_last(self) -> None:
        first = self.ask()
        self.ask(UMBRELLA)
        one, two = self.ask(ACME), self.ask(ACME)
        first.leave()
        late = self.ask(UMBRELLA)
        assert [slot.position for slot in (one, late, two)] == [1, 2, 3]

    def test_leaving_the_queue_moves_the_others_up(self) -> None:
        slots = [self.ask() for _ in range(4)]
        slots[2].leave()
        assert self.waiting() == [2, 4]
        assert slots[2].position == 0
        slots[0].leave()
        assert (slots[1].granted, slots[2].granted) == (True, False)

    def test_leaving_twice_gives_back_one(self) -> None:
        budget = Budget(Work.BOOT, 2)
        one, _, three, four = (budget.ask(VMId(number), ACME) for number in range(4))
        one.leave()
        one.leave()
        assert (three.granted, four.granted, budget.used) == (True, False, 2)

    def test_work_that_goes_on_already_counts_though_it_is_one_too_many(self) -> None:
        first = self.ask()
        found = self.budget.take(VMId(9), ACME)
        waiting = self.ask()
        assert self.budget.used == 2
        first.leave()
        assert not waiting.granted
        found.leave()
        assert waiting.granted

    def test_who_cannot_wait_any_longer_is_one_too_many(self) -> None:
        first, forced, waiting = self.ask(), self.ask(), self.ask()
        done = self.begin(forced.wait())
        forced.force()
        forced.force()
        self.result(done)
        assert (forced.granted, self.budget.used, self.waiting()) == (True, 2, [3])
        first.leave()
        assert not waiting.granted

    def test_one_that_has_left_is_not_forced(self) -> None:
        self.ask()
        gone = self.ask()
        gone.leave()
        gone.force()
        assert (gone.granted, self.budget.used) == (False, 1)

    def test_a_wait_that_is_given_up_keeps_its_place(self) -> None:
        first, second = self.ask(), self.ask()
        given_up = self.begin(second.wait())
        given_up.cancel()
        self.failure(given_up, CancelledError)
        assert second.position == 1
        again = self.begin(second.wait())
        first.leave()
        self.result(again)

    def test_after_the_lift_nobody_waits(self) -> None:
        slots = [self.ask() for _ in range(3)]
        self.budget.lift()
        assert all(slot.granted for slot in slots)
        assert self.ask().granted

    def test_a_long_queue_of_failures_is_no_recursion(self) -> None:
        """Each leaves its slot as soon as it has it, before the one that gave it has returned."""
        first = self.ask()
        slots = [self.ask() for _ in range(3000)]
        for slot in slots:
            done = self.begin(slot.wait())
            done.addCallback(self.leaver(slot))
        first.leave()
        assert all(slot.granted for slot in slots)
        assert (self.budget.used, self.waiting()) == (0, [])

    def leaver(self, slot: Slot) -> Callable[[None], None]:
        return lambda _: slot.leave()

    def test_budgets_are_separate(self) -> None:
        slots = Slots(SlotSizes(unpack=1, boot=1, stop=1))
        for work in (Work.UNPACK, Work.BOOT):
            slots.budgets[work].ask(VMId(1), ACME)
            assert not slots.budgets[work].ask(VMId(2), ACME).granted
        assert slots.budgets[Work.STOP].ask(VMId(3), ACME).granted

    def test_another_epoch_begins_with_all_of_them(self) -> None:
        old = Slots(SlotSizes(boot=1))
        old.budgets[Work.BOOT].ask(VMId(1), ACME)
        assert old.fresh().budgets[Work.BOOT].ask(VMId(2), ACME).granted
        assert old.fresh().sizes == old.sizes


class BudgetMachine(RuleBasedStateMachine):
    """Asks, leaves, takes and forces in any order, beside a model: plain lists."""

    SIZE = 2
    slots: Bundle[Slot] = Bundle("slots")

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(Work.BOOT, self.SIZE)
        self.alive: list[Slot] = []
        self.extra = 0
        self.number = 0

    @rule(target=slots, tenant=st.integers(1, 3))
    def ask(self, tenant: int) -> Slot:
        self.number += 1
        slot = self.budget.ask(VMId(self.number), TenantId(tenant))
        self.alive.append(slot)
        return slot

    @rule(target=slots, tenant=st.integers(1, 3))
    def take(self, tenant: int) -> Slot:
        self.number += 1
        slot = self.budget.take(VMId(self.number), TenantId(tenant))
        self.alive.append(slot)
        return slot

    @rule(slot=slots)
    def force(self, slot: Slot) -> None:
        before = slot.granted
        slot.force()
        assert slot.granted == (before or slot in self.alive)

    @rule(slot=consumes(slots))
    def leave(self, slot: Slot) -> None:
        before = list(self.budget.waiting())
        full = self.budget.used > self.SIZE
        self.alive.remove(slot)
        slot.leave()
        if slot in before:
            after = list(self.budget.waiting())
            assert all(after.index(other) <= before.index(other) for other in before if other is not slot)
        elif before and not full:
            assert before[0].granted, "the first in the queue is the next"
            assert list(self.budget.waiting()) == before[1:], "and nobody else has lost a place"

    @rule(slot=slots)
    def leave_again(self, slot: Slot) -> None:
        if slot not in self.alive:
            used = self.budget.used
            slot.leave()
            assert self.budget.used == used

    @invariant()
    def nothing_leaks(self) -> None:
        assert self.budget.used == sum(slot.granted for slot in self.alive)
        assert set(self.budget.waiting()) == {slot for slot in self.alive if not slot.granted}

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        assert not self.budget.waiting() or self.budget.used >= self.SIZE

    @invariant()
    def first_come_first_served_within_a_tenant(self) -> None:
        for tenant in (1, 2, 3):
            mine = [slot.vm_id for slot in self.budget.waiting() if slot.tenant_id == tenant]
            assert mine == sorted(mine)

    @invariant()
    def fair_between_tenants(self) -> None:
        """Nobody has a second turn before everybody who waits has had one."""
        waiting = [slot.tenant_id for slot in self.budget.waiting()]
        tenants = set(waiting)
        assert set(waiting[: len(tenants)]) == tenants

    def teardown(self) -> None:
        for slot in list(self.alive):
            slot.leave()
        assert self.budget.used == 0
        assert self.budget.waiting() == []


TestBudgetMachine = BudgetMachine.TestCase
