"""The X session's table: total, never stuck, and with hang-ups only where they mean what they should."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.xsession import EFFECT, REPORTED, TABLE, Effect, Step, XEvent, XState, advance

LIVE = set(Step) - {Step.STOPPED, Step.PREPARING, Step.ENDING, Step.TERMINATING, Step.KILLING}
"""nxagent runs, and is not about to end."""
LOG = (
    XEvent.WAITING,
    XEvent.ACCEPTED,
    XEvent.STARTED,
    XEvent.SUSPENDING,
    XEvent.SUSPENDED,
    XEvent.RESUMING,
    XEvent.ENDING,
)

steps = st.sampled_from(Step)


def follow(step: Step, *events: XEvent) -> Step:
    for event in events:
        step = advance(step, event) or step
    return step


def reachable(start: Iterable[Step]) -> set[Step]:
    found, queue = set(start), list(start)
    while queue:
        for step in TABLE[queue.pop()].values():
            if step is not None and step not in found:
                found.add(step)
                queue.append(step)
    return found


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(Step)
    for step in Step:
        assert set(TABLE[step]) == set(XEvent), step


def test_each_step_is_reported_and_has_an_effect_or_none() -> None:
    assert set(REPORTED) == set(Step)
    assert set(REPORTED.values()) == set(XState)
    assert set(EFFECT) == set(Step)
    assert set(EFFECT.values()) == {*Effect, None}


def test_each_step_is_reached() -> None:
    assert reachable([Step.STOPPED]) == set(Step)


@pytest.mark.parametrize("step", Step)
def test_there_is_a_way_back_from_each_step(step: Step) -> None:
    assert Step.STOPPED in reachable([step])


@pytest.mark.parametrize("step", sorted(LIVE | {Step.ENDING, Step.TERMINATING, Step.KILLING}, key=str))
def test_the_end_of_all_processes_is_the_end(step: Step) -> None:
    assert advance(step, XEvent.EXITED) is Step.STOPPED


@pytest.mark.parametrize("step", sorted(LIVE, key=str))
def test_what_lives_can_be_stopped_and_killed(step: Step) -> None:
    assert advance(step, XEvent.STOP) is Step.TERMINATING
    assert advance(step, XEvent.KILL) is Step.KILLING
    assert advance(step, XEvent.PART_EXITED) is Step.TERMINATING


def test_what_does_not_end_is_killed_until_it_does() -> None:
    for step in (Step.ENDING, Step.TERMINATING, Step.KILLING):
        assert advance(step, XEvent.TIMED_OUT) is Step.KILLING


def test_a_first_session() -> None:
    assert follow(Step.STOPPED, XEvent.START) is Step.PREPARING
    assert follow(Step.PREPARING, XEvent.READY, XEvent.WAITING) is Step.WAITING
    assert follow(Step.WAITING, XEvent.ACCEPTED) is Step.NEGOTIATING
    assert follow(Step.NEGOTIATING, XEvent.STARTED) is Step.CONNECTED
    assert follow(Step.CONNECTED, XEvent.SUSPENDING, XEvent.SUSPENDED, XEvent.TIMED_OUT) is Step.SUSPENDED


def test_a_resume() -> None:
    assert follow(Step.SUSPENDED, XEvent.START) is Step.WAKING
    assert follow(Step.WAKING, XEvent.READY) is Step.RESUMING
    assert follow(Step.RESUMING, XEvent.RESUMING, XEvent.WAITING, XEvent.ACCEPTED, XEvent.STARTED) is Step.CONNECTED


def test_a_preparation_that_fails_goes_back_to_where_it_began() -> None:
    assert follow(Step.STOPPED, XEvent.START, XEvent.FAILED) is Step.STOPPED
    assert follow(Step.SUSPENDED, XEvent.START, XEvent.FAILED) is Step.SUSPENDED


def test_listening_is_reported_only_after_nxagent_says_so() -> None:
    assert [step for step in Step if REPORTED[step] is XState.LISTENING] == [Step.WAITING]
    assert {event for step in Step for event in XEvent if TABLE[step][event] is Step.WAITING} == {XEvent.WAITING}


def test_a_hang_up_is_sent_for_an_order_or_once_more_where_it_got_no_answer() -> None:
    sent = {(step, event) for step in Step for event in XEvent if hangs_up(TABLE[step][event])}
    assert sent == {
        (Step.NEGOTIATING, XEvent.PUSH),
        (Step.CONNECTED, XEvent.PUSH),
        (Step.PUSHING, XEvent.TIMED_OUT),
        (Step.WAKING, XEvent.READY),
        (Step.RESUMING, XEvent.TIMED_OUT),
    }


def hangs_up(step: Step | None) -> bool:
    return step is not None and EFFECT[step] is Effect.HANG_UP


@pytest.mark.parametrize("order", [XEvent.START, XEvent.PUSH])
def test_an_order_is_not_given_twice(order: XEvent) -> None:
    for step in (Step.PUSHING, Step.PUSHING_AGAIN, Step.RESUMING, Step.RESUMING_AGAIN, Step.OPENING):
        assert advance(step, order) is None


@pytest.mark.parametrize("step", sorted(LIVE, key=str))
def test_the_log_is_followed_wherever_it_leads(step: Step) -> None:
    assert follow(step, XEvent.WAITING) is Step.WAITING
    assert follow(step, XEvent.ENDING) is Step.ENDING
    assert follow(step, XEvent.SUSPENDING, XEvent.SUSPENDED, XEvent.TIMED_OUT) is Step.SUSPENDED


@given(steps, st.lists(st.sampled_from(LOG)))
def test_a_log_line_alone_never_signals_anything(step: Step, lines: list[XEvent]) -> None:
    # The session's own programs might forge them.
    for line in lines:
        entered = advance(step, line)
        assert entered is None or EFFECT[entered] in (None, Effect.RUN_SESSION)
        step = entered or step


@given(st.lists(st.sampled_from(XEvent)))
def test_nothing_is_launched_while_something_runs(events: list[XEvent]) -> None:
    running, step = False, Step.STOPPED
    for event in events:
        entered = advance(step, event)
        if entered is not None:
            assert not (EFFECT[entered] is Effect.LAUNCH and running)
            step = entered
        running = running or step is Step.LAUNCHING
        if event in (XEvent.EXITED, XEvent.FAILED) and step is Step.STOPPED:
            running = False
