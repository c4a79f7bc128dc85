"""What counts as a VM's failure, and how long it has to wait after how many."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.model.crashloop import (
    LONGEST_PAUSE,
    STEADY_SECONDS,
    Ending,
    back_off,
    back_offs,
    check_back_off,
    judge_ending,
    loop_sentence,
)
from qvd.model.errors import Unavailable
from qvd.model.vm import Event, Step
from tests.fakes.ownership import vm_row


def test_the_first_failures_cost_nothing_and_then_each_doubles() -> None:
    assert [back_off(failures) for failures in range(10)] == [0, 0, 0, 10, 20, 40, 80, 160, 300, 300]
    assert back_off(10**9) == LONGEST_PAUSE


def test_the_list_ends_where_it_does_not_grow_any_more() -> None:
    pauses = back_offs()
    assert pauses == [back_off(failures) for failures in range(1, len(pauses) + 1)]
    assert pauses[-1] == LONGEST_PAUSE > pauses[-2]


@pytest.mark.parametrize(
    ("step", "event", "ran", "ending"),
    [
        (Step.BOOT, Event.FAILED, 0, Ending.FAILED),
        (Step.BOOT, Event.DOMAIN_EXITED, 0, Ending.FAILED),
        (Step.AWAIT_GUEST, Event.TIMED_OUT, 0, Ending.FAILED),
        (Step.AWAIT_GUEST, Event.DOMAIN_EXITED, 0, Ending.FAILED),
        (Step.AWAIT_GUEST, Event.GUEST_ALIVE, 0, Ending.NEUTRAL),
        (Step.AWAIT_GUEST, Event.STOP, 0, Ending.NEUTRAL),
        (Step.RUNNING, Event.DOMAIN_EXITED, STEADY_SECONDS - 1, Ending.FAILED),
        (Step.RUNNING, Event.GUEST_DEAD, STEADY_SECONDS - 1, Ending.FAILED),
        (Step.RUNNING, Event.DOMAIN_EXITED, STEADY_SECONDS, Ending.SETTLED),
        (Step.RUNNING, Event.GUEST_DEAD, STEADY_SECONDS, Ending.SETTLED),
        (Step.RUNNING, Event.STOP, 0, Ending.SETTLED),
        # The node's image, the node's queue.
        (Step.PREPARE, Event.FAILED, 0, Ending.NEUTRAL),
        (Step.QUEUED, Event.TIMED_OUT, 0, Ending.NEUTRAL),
        (Step.PREPARED, Event.TIMED_OUT, 0, Ending.NEUTRAL),
    ],
)
def test_what_an_end_says_of_the_vm(step: Step, event: Event, ran: float, ending: Ending) -> None:
    assert judge_ending(step, event, False, ran) is ending


def test_a_failure_of_the_node_is_not_the_vms() -> None:
    assert judge_ending(Step.BOOT, Event.FAILED, True, 0) is Ending.NEUTRAL


def test_the_sentence_says_what_how_often_and_when() -> None:
    vm = evolve(vm_row(4), failures=4, retry_in=19.2, last_error="The kernel panics")
    with pytest.raises(Unavailable) as caught:
        check_back_off(vm)
    assert caught.value.text == (
        "The virtual machine has failed 4 times in a row, and may be started again in 20 s."
        " The last time: The kernel panics"
    )
    assert caught.value.retry_after == 20


@pytest.mark.parametrize("retry_in", [None, 0.0])
def test_one_that_may_be_started_is_not_held_back(retry_in: float | None) -> None:
    vm = evolve(vm_row(4), failures=4, retry_in=retry_in)
    check_back_off(vm)
    assert loop_sentence(vm) is None
