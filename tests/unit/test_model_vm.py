"""The table of a VM's life: total, reachable, never stuck, never back once taken away."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.vm import (
    EFFECT,
    IGNORE,
    LAST,
    OWNED,
    POSTPONE,
    QUEUES,
    STATE,
    TABLE,
    WORK,
    Effect,
    Event,
    Go,
    Position,
    Step,
    VMState,
    advance,
    due,
)

ADOPTED = (Step.QUEUED, Step.AWAIT_GUEST, Step.RUNNING, Step.TERMINATE, Step.KILL, Step.CLEAN, Step.KILL_LOST)
"""Where a runner begins: with a claim, or with what recovery found."""
WAITING = Step.RELEASE
"""Left only when the database has answered: the runner asks until it does."""
ENDLESS = (Step.RUNNING,)
"""Where a VM stays without being told anything."""

steps = st.sampled_from(Step)
events = st.sampled_from(Event)


def follow(at: Position, told: Iterable[Event]) -> Position:
    """As the runner does: postponed events are told again in the next step."""
    queue = list(told)
    while queue:
        before, at = at.turn, advance(at, queue.pop(0))
        if at.turn != before:
            at, again = due(at)
            queue.extend(again)
    return at


def reachable(start: Iterable[Step]) -> set[Step]:
    found, queue = set(start), list(start)
    while queue:
        for verdict in TABLE[queue.pop()].values():
            if isinstance(verdict, Go) and verdict.step not in found:
                found.add(verdict.step)
                queue.append(verdict.step)
    return found


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(Step)
    for step in Step:
        assert set(TABLE[step]) == set(Event), step


def test_each_step_has_a_state_and_an_effect_or_none() -> None:
    assert set(STATE) == set(Step)
    assert set(EFFECT) == set(Step)
    assert set(STATE.values()) == set(VMState)
    assert set(EFFECT.values()) == {*Effect, None}


def test_steps_have_texts_of_their_own() -> None:
    # The text is the column "phase", which tells one step from another.
    assert len({step.value for step in Step}) == len(Step)


def test_each_step_is_reached() -> None:
    assert reachable(ADOPTED) == set(Step)


@pytest.mark.parametrize("step", Step)
def test_there_is_a_way_to_the_end_from_each_step(step: Step) -> None:
    assert reachable([step]) & LAST


@pytest.mark.parametrize("step", sorted(LAST, key=str))
def test_the_last_steps_are_never_left(step: Step) -> None:
    assert set(TABLE[step].values()) == {IGNORE}


@pytest.mark.parametrize("step", sorted(OWNED - LAST, key=str))
def test_a_loss_is_heeded_at_once_in_each_owned_step(step: Step) -> None:
    verdict = TABLE[step][Event.LOST]
    assert isinstance(verdict, Go)
    assert verdict.step not in OWNED


@pytest.mark.parametrize("step", sorted(OWNED - LAST - {Step.RELEASE}, key=str))
def test_a_lost_vm_is_killed_first(step: Step) -> None:
    # In RELEASE nothing of it is left to be killed: the runner is through.
    assert TABLE[step][Event.LOST] == Go(Step.KILL_LOST)


@pytest.mark.parametrize("step", sorted(set(Step) - OWNED, key=str))
def test_there_is_no_way_back_from_a_loss(step: Step) -> None:
    assert not reachable([step]) & OWNED


def test_nothing_is_cleaned_up_before_it_was_ended() -> None:
    """The driver's C{destroy} is for VMs that are gone: a step that cleans is entered when nothing was started, when
    the kill is done, or when the domain has exited."""
    cleaning = {Step.CLEAN, Step.CLEAN_LOST}
    for step, row in TABLE.items():
        for event, verdict in row.items():
            if isinstance(verdict, Go) and verdict.step in cleaning:
                ended = event is Event.DOMAIN_EXITED or (event is Event.DONE and EFFECT[step] is Effect.KILL)
                assert ended or step in (Step.PREPARE, Step.PREPARED), (step, event)


def test_nothing_is_released_before_it_was_cleaned_up() -> None:
    ways = {
        (step, event)
        for step, row in TABLE.items()
        for event, verdict in row.items()
        if isinstance(verdict, Go) and verdict.step is Step.RELEASE and step is not Step.RELEASE
    }
    # Nothing was made ready yet for one that waits for its turn: what it had was a place in a queue.
    waiting = {(Step.QUEUED, event) for event in (Event.STOP, Event.KILL, Event.FAILED, Event.TIMED_OUT)}
    assert ways == {(Step.CLEAN, Event.DONE), *waiting}


def test_a_stop_never_waits_for_the_guest_to_come_up() -> None:
    assert [step for step in Step if TABLE[step][Event.STOP] is POSTPONE] == [Step.BOOT]
    for step in (Step.QUEUED, Step.PREPARE, Step.PREPARED, Step.AWAIT_GUEST, Step.RUNNING):
        assert isinstance(TABLE[step][Event.STOP], Go)


def test_a_stop_is_orderly_only_where_there_is_a_guest_to_ask() -> None:
    assert TABLE[Step.RUNNING][Event.STOP] == Go(Step.SHUTDOWN)
    assert TABLE[Step.AWAIT_GUEST][Event.STOP] == Go(Step.TERMINATE)


def test_no_state_goes_back() -> None:
    """The stored state only grows, from starting to stopped; a VM found stuck may be tidied up again."""
    order = [VMState.STARTING, VMState.RUNNING, VMState.STOPPING, VMState.ZOMBIE]
    allowed = {(VMState.ZOMBIE, VMState.STOPPING)}
    for step, row in TABLE.items():
        for verdict in row.values():
            if isinstance(verdict, Go) and verdict.step not in LAST:
                old, new = STATE[step], STATE[verdict.step]
                assert order.index(new) >= order.index(old) or (old, new) in allowed, (step, verdict)


def test_the_way_of_a_good_life() -> None:
    at, seen = Position(Step.QUEUED), []
    for event in (
        Event.DONE,
        Event.DONE,
        Event.DONE,
        Event.DONE,
        Event.GUEST_ALIVE,
        Event.STOP,
        Event.DONE,
        Event.DOMAIN_EXITED,
        Event.DONE,
        Event.DONE,
    ):
        at = advance(at, event)
        seen.append(at.step)
    assert seen == [
        Step.PREPARE,
        Step.PREPARED,
        Step.BOOT,
        Step.AWAIT_GUEST,
        Step.RUNNING,
        Step.SHUTDOWN,
        Step.AWAIT_EXIT,
        Step.CLEAN,
        Step.RELEASE,
        Step.RELEASED,
    ]
    assert at.turn == 10


def test_a_waiting_step_waits_in_the_budget_of_the_step_that_it_leads_to() -> None:
    assert set(WORK) == set(Step)
    assert {step for step in Step if EFFECT[step] is Effect.QUEUE} == QUEUES
    for step in QUEUES:
        verdict = TABLE[step][Event.DONE]
        assert isinstance(verdict, Go)
        assert WORK[step] is WORK[verdict.step] is not None


def test_work_that_costs_has_a_budget_and_a_kill_after_a_loss_has_none() -> None:
    spent = {step for step in OWNED if EFFECT[step] in (Effect.PREPARE, Effect.BOOT, Effect.TERMINATE, Effect.KILL)}
    assert all(WORK[step] for step in spent)
    assert not any(WORK[step] for step in Step if step not in OWNED)
    # A VM that cannot be ended, or whose row is all that is left, keeps nobody else waiting.
    assert not any(WORK[step] for step in (Step.STUCK, Step.RELEASE, Step.RUNNING))


MOVES = {
    (Step.QUEUED, Event.KILL): Step.RELEASE,
    (Step.PREPARE, Event.KILL): Step.CLEAN,
    (Step.PREPARED, Event.KILL): Step.CLEAN,
    (Step.AWAIT_GUEST, Event.KILL): Step.KILL,
    (Step.RUNNING, Event.KILL): Step.KILL,
    (Step.SHUTDOWN, Event.KILL): Step.KILL,
    (Step.AWAIT_EXIT, Event.KILL): Step.KILL,
    (Step.TERMINATE, Event.KILL): Step.KILL,
    (Step.STUCK, Event.KILL): Step.KILL,
    (Step.QUEUED, Event.DONE): Step.PREPARE,
    (Step.QUEUED, Event.STOP): Step.RELEASE,
    (Step.QUEUED, Event.FAILED): Step.RELEASE,
    (Step.QUEUED, Event.TIMED_OUT): Step.RELEASE,
    (Step.PREPARE, Event.DONE): Step.PREPARED,
    (Step.PREPARED, Event.DONE): Step.BOOT,
    (Step.PREPARED, Event.STOP): Step.CLEAN,
    (Step.PREPARED, Event.FAILED): Step.CLEAN,
    (Step.PREPARED, Event.TIMED_OUT): Step.CLEAN,
    (Step.PREPARE, Event.STOP): Step.CLEAN,
    (Step.PREPARE, Event.FAILED): Step.CLEAN,
    (Step.PREPARE, Event.TIMED_OUT): Step.CLEAN,
    (Step.BOOT, Event.DONE): Step.AWAIT_GUEST,
    (Step.BOOT, Event.FAILED): Step.KILL,
    (Step.BOOT, Event.TIMED_OUT): Step.KILL,
    (Step.BOOT, Event.DOMAIN_EXITED): Step.KILL,
    (Step.AWAIT_GUEST, Event.GUEST_ALIVE): Step.RUNNING,
    (Step.AWAIT_GUEST, Event.STOP): Step.TERMINATE,
    (Step.AWAIT_GUEST, Event.FAILED): Step.TERMINATE,
    (Step.AWAIT_GUEST, Event.TIMED_OUT): Step.TERMINATE,
    (Step.AWAIT_GUEST, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.RUNNING, Event.STOP): Step.SHUTDOWN,
    (Step.RUNNING, Event.GUEST_DEAD): Step.TERMINATE,
    (Step.RUNNING, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.SHUTDOWN, Event.DONE): Step.AWAIT_EXIT,
    (Step.SHUTDOWN, Event.FAILED): Step.TERMINATE,
    (Step.SHUTDOWN, Event.TIMED_OUT): Step.TERMINATE,
    (Step.SHUTDOWN, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.AWAIT_EXIT, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.AWAIT_EXIT, Event.TIMED_OUT): Step.TERMINATE,
    (Step.TERMINATE, Event.FAILED): Step.KILL,
    (Step.TERMINATE, Event.TIMED_OUT): Step.KILL,
    (Step.TERMINATE, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.KILL, Event.DONE): Step.CLEAN,
    (Step.KILL, Event.FAILED): Step.STUCK,
    (Step.KILL, Event.TIMED_OUT): Step.STUCK,
    (Step.KILL, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.STUCK, Event.TIMED_OUT): Step.KILL,
    (Step.STUCK, Event.DOMAIN_EXITED): Step.CLEAN,
    (Step.CLEAN, Event.DONE): Step.RELEASE,
    (Step.CLEAN, Event.FAILED): Step.STUCK,
    (Step.CLEAN, Event.TIMED_OUT): Step.STUCK,
    (Step.RELEASE, Event.DONE): Step.RELEASED,
    (Step.RELEASE, Event.TIMED_OUT): Step.RELEASE,
    (Step.KILL_LOST, Event.DONE): Step.CLEAN_LOST,
    (Step.KILL_LOST, Event.FAILED): Step.STUCK_LOST,
    (Step.KILL_LOST, Event.TIMED_OUT): Step.STUCK_LOST,
    (Step.KILL_LOST, Event.DOMAIN_EXITED): Step.CLEAN_LOST,
    (Step.STUCK_LOST, Event.TIMED_OUT): Step.KILL_LOST,
    (Step.STUCK_LOST, Event.DOMAIN_EXITED): Step.CLEAN_LOST,
    (Step.CLEAN_LOST, Event.DONE): Step.GONE,
    (Step.CLEAN_LOST, Event.FAILED): Step.STUCK_LOST,
    (Step.CLEAN_LOST, Event.TIMED_OUT): Step.STUCK_LOST,
}
"""Each move but those by a loss, written down a second time: where this and the table differ, one of them is wrong."""


def test_the_table_moves_as_written_here_and_nowhere_else() -> None:
    moves = {
        (step, event): verdict.step
        for step, row in TABLE.items()
        for event, verdict in row.items()
        if isinstance(verdict, Go) and event is not Event.LOST
    }
    assert moves == MOVES


def test_an_ignored_event_changes_nothing() -> None:
    at = Position(Step.RUNNING, 3)
    assert advance(at, Event.DONE) is at


def test_a_postponed_event_is_kept_once_and_told_in_the_next_step() -> None:
    at = advance(advance(Position(Step.BOOT, 1), Event.STOP), Event.STOP)
    assert (at.step, at.turn, at.postponed) == (Step.BOOT, 1, (Event.STOP,))
    at = advance(at, Event.DONE)
    assert (at.step, at.turn) == (Step.AWAIT_GUEST, 2)
    at, again = due(at)
    assert again == (Event.STOP,)
    assert at.postponed == ()
    assert advance(at, Event.STOP).step is Step.TERMINATE


def test_a_position_knows_its_state() -> None:
    assert Position(Step.BOOT).state is VMState.STARTING
    assert Position(Step.STUCK).state is VMState.ZOMBIE


@given(steps, st.lists(events, max_size=30))
def test_whatever_happens_the_end_can_be_forced(step: Step, told: list[Event]) -> None:
    """What a runner is sure to see: a stop, then in each step the end of its time or, of the kill, its outcome."""
    at = follow(Position(step), told)
    at = follow(at, [Event.STOP])
    for _ in range(len(Step)):
        if at.step in LAST:
            break
        done = EFFECT[at.step] in (Effect.KILL, Effect.DESTROY, Effect.RELEASE)
        at = follow(at, [Event.DONE if done else Event.TIMED_OUT])
    assert at.step in LAST


@given(steps, st.lists(events, max_size=30))
def test_a_lost_vm_is_gone_without_another_write(step: Step, told: list[Event]) -> None:
    at = follow(Position(step), [Event.LOST, *told])
    assert at.step is Step.RELEASED or at.step not in OWNED


@given(steps, st.lists(events, max_size=30))
def test_turns_count_the_steps_entered(step: Step, told: list[Event]) -> None:
    at = Position(step)
    for event in told:
        new = advance(at, event)
        assert new.turn - at.turn == isinstance(TABLE[at.step][event], Go)
        at = new


@given(st.lists(events.filter(lambda event: event not in (Event.STOP, Event.LOST)), max_size=30))
def test_nobody_is_asked_to_power_off_unless_somebody_ordered_it(told: list[Event]) -> None:
    at = Position(Step.QUEUED)
    for event in told:
        at = follow(at, [event])
        assert at.step not in (Step.SHUTDOWN, Step.AWAIT_EXIT)


def test_a_vm_lost_while_its_row_is_released_is_gone() -> None:
    assert TABLE[Step.RELEASE][Event.LOST] == Go(Step.GONE)
