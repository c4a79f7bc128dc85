"""Every combination of a stored row and what the hypervisor shows."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.model.records import VM, Desired, Domain, Guest
from qvd.model.recovery import ENDED, INTERRUPTED, Judgement, Plan, judge, same_run
from qvd.model.secret import Secret
from qvd.model.vm import OWNED, Step, VMState
from tests.fakes.driver import guest_of
from tests.fakes.ownership import HOST, vm_row

LEFTOVERS = Domain(vm_row().vm_id, False, guest_of(1))
RUNS = Domain(vm_row().vm_id, True, guest_of(1))
OTHER = Domain(vm_row().vm_id, True, Guest("127.0.0.1", 1, 2, Secret("another run")))
NAMELESS = Domain(vm_row().vm_id, True, None)
ACTIVE = (VMState.STARTING, VMState.RUNNING, VMState.STOPPING, VMState.ZOMBIE)
WRITTEN = {VMState.STARTING: None, VMState.RUNNING: guest_of(1), VMState.STOPPING: guest_of(1)}


def row(state: VMState, desired: Desired = Desired.RUNNING) -> VM:
    return vm_row(state=state, desired=desired, host_id=HOST, guest=WRITTEN.get(state))


@pytest.mark.parametrize("vm", [None, row(VMState.STOPPED)])
def test_nothing_is_left_alone(vm: VM | None) -> None:
    assert judge(vm, None) == Judgement(Plan.LEAVE)


@pytest.mark.parametrize("vm", [None, row(VMState.STOPPED)])
@pytest.mark.parametrize("domain", [LEFTOVERS, RUNS, OTHER, NAMELESS])
def test_what_runs_without_a_row_is_reaped_and_no_row_is_written(vm: VM | None, domain: Domain) -> None:
    judgement = judge(vm, domain)
    assert judgement == Judgement(Plan.REAP, Step.KILL_LOST)
    assert judgement.step not in OWNED


@pytest.mark.parametrize("domain", [None, LEFTOVERS])
@pytest.mark.parametrize(
    ("state", "error"),
    [
        (VMState.STARTING, INTERRUPTED),
        (VMState.RUNNING, ENDED),
        (VMState.ZOMBIE, ENDED),
        (VMState.STOPPING, None),
    ],
)
def test_what_does_not_run_any_more_is_cleaned_up_and_released(
    domain: Domain | None, state: VMState, error: str | None
) -> None:
    assert judge(row(state), domain) == Judgement(Plan.ADOPT, Step.CLEAN, True, error)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (VMState.STARTING, Step.AWAIT_GUEST),
        (VMState.RUNNING, Step.RUNNING),
        (VMState.STOPPING, Step.TERMINATE),
        (VMState.ZOMBIE, Step.KILL),
    ],
)
def test_what_still_runs_goes_on_where_it_was(state: VMState, step: Step) -> None:
    assert judge(row(state), RUNS) == Judgement(Plan.ADOPT, step, True)


@pytest.mark.parametrize("state", [VMState.STARTING, VMState.RUNNING])
def test_a_stop_that_was_taken_up_is_not_forgotten(state: VMState) -> None:
    """A daemon that ends between taking a stop up and writing the next state leaves a row that runs and is to stop."""
    judgement = judge(row(state, Desired.STOPPED), RUNS)
    assert judgement.plan is Plan.ADOPT
    assert judgement.step in (Step.SHUTDOWN, Step.TERMINATE)


@pytest.mark.parametrize("state", [VMState.RUNNING, VMState.STOPPING])
def test_another_run_of_the_same_vm_is_killed(state: VMState) -> None:
    assert judge(row(state), OTHER) == Judgement(Plan.ADOPT, Step.KILL, True, ENDED)


@pytest.mark.parametrize("state", ACTIVE)
def test_a_domain_that_does_not_say_where_it_listens_is_killed(state: VMState) -> None:
    assert judge(row(state), NAMELESS) == Judgement(Plan.ADOPT, Step.KILL, True, ENDED)


def test_an_interrupted_start_is_the_same_run() -> None:
    assert same_run(row(VMState.STARTING), RUNS)
    assert same_run(row(VMState.RUNNING), RUNS)
    assert not same_run(row(VMState.RUNNING), OTHER)
    assert not same_run(row(VMState.STARTING), NAMELESS)


@pytest.mark.parametrize(
    ("step", "domain", "taken_up_at"),
    [
        (Step.QUEUED, None, Step.RELEASE),
        (Step.QUEUED, LEFTOVERS, Step.CLEAN),
        (Step.PREPARED, None, Step.CLEAN),
        (Step.PREPARED, LEFTOVERS, Step.CLEAN),
    ],
)
def test_one_that_waited_for_its_turn_lines_up_again(step: Step, domain: Domain | None, taken_up_at: Step) -> None:
    waiting = evolve(row(VMState.STARTING), phase=step.value)
    assert judge(waiting, domain) == Judgement(Plan.ADOPT, taken_up_at, True, again=True)
    unwanted = evolve(waiting, desired=Desired.STOPPED)
    assert judge(unwanted, domain) == Judgement(Plan.ADOPT, taken_up_at, True)


def test_one_that_booted_before_its_row_said_so_is_adopted() -> None:
    assert judge(evolve(row(VMState.STARTING), phase=Step.PREPARED.value), RUNS).step is Step.AWAIT_GUEST


@pytest.mark.parametrize("state", VMState)
@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize("domain", [None, LEFTOVERS, RUNS, OTHER, NAMELESS])
def test_every_judgement_can_be_carried_out(state: VMState, desired: Desired, domain: Domain | None) -> None:
    judgement = judge(row(state, desired), domain)
    assert (judgement.step is None) == (judgement.plan is Plan.LEAVE)
    # The first two steps need what only a claim brings.
    assert judgement.step not in (Step.PREPARE, Step.BOOT)
    assert judgement.adopt_row == (judgement.step in OWNED)
