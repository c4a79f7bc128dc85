"""Whatever happens to a VM, it has the slot of its step and no other, and none in the end."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qvd.hkd.slots import Slots, SlotSizes
from qvd.hkd.slotuse import SlotUse
from qvd.hkd.wording import DETAIL
from qvd.model.ids import TenantId, VMId
from qvd.model.vm import LAST, QUEUES, WORK, Event, Position, Step, Work, advance, due

happenings = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(Event)), max_size=80)
"""Which VM, and what happens to it."""


def counts(slots: Slots) -> dict[Work, int]:
    """Slots and places in queues that somebody has."""
    return {work: budget.used + len(budget.waiting()) for work, budget in slots.budgets.items()}


@given(happenings)
@example([(0, Event.DONE), (0, Event.STOP), (0, Event.DONE)])
def test_slots_go_with_the_steps(told: list[tuple[int, Event]]) -> None:
    slots = Slots(SlotSizes(unpack=1, boot=1, stop=1))
    uses = [SlotUse(slots, "n1", VMId(number), TenantId(number % 2)) for number in range(5)]
    at = [use.line_up(Position(Step.QUEUED)) for use in uses]

    def tell(number: int, event: Event) -> None:
        """As the runner does."""
        former, at[number] = at[number], advance(at[number], event)
        if at[number].turn != former.turn:
            at[number] = uses[number].line_up(at[number])
            uses[number].occupy(at[number].step)
            at[number], again = due(at[number])
            for postponed in again:
                tell(number, postponed)

    for number, use in enumerate(uses):
        use.occupy(at[number].step)
    for number, event in told:
        if event is Event.DONE and at[number].step in QUEUES and uses[number].waits:
            continue  # nobody says so before it is true
        tell(number, event)
        expected = [WORK[position.step] for position in at]
        assert counts(slots) == {work: expected.count(work) for work in Work}
    for number in range(5):
        tell(number, Event.LOST)
    # All of them are gone, or on their way without a slot.
    assert set(counts(slots).values()) == {0}


def test_what_is_found_at_work_counts() -> None:
    slots = Slots(SlotSizes(boot=1))
    for number in range(2):
        use = SlotUse(slots, "n1", VMId(number), TenantId(1))
        use.occupy(Step.AWAIT_GUEST)
        assert not use.waits
    assert slots.budgets[Work.BOOT].used == 2


@pytest.mark.parametrize("step", sorted(set(Step) - LAST, key=str))
def test_a_step_without_a_budget_waits_for_nobody(step: Step) -> None:
    slots = Slots(SlotSizes(unpack=0, boot=0, stop=0))
    use = SlotUse(slots, "n1", VMId(1), TenantId(1))
    use.occupy(step)
    assert use.waits == (WORK[step] is Work.STOP)


def test_what_is_told_is_the_place_until_it_is_had() -> None:
    slots = Slots(SlotSizes(stop=1))
    first, second = (SlotUse(slots, "n2", VMId(number), TenantId(1)) for number in range(2))
    first.occupy(Step.KILL)
    second.occupy(Step.KILL)
    assert second.detail(Step.KILL) == "Position 1 in the queue of node n2, waiting to be stopped"
    assert second.told
    first.give_back()
    assert second.detail(Step.KILL) == DETAIL[Step.KILL]
    assert not second.told
