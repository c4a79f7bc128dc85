# -*- test-case-name: tests.unit.test_model_recovery -*-
"""
What a stored row and an observed domain mean together when a node comes up.

The hypervisor is the authority on what runs; the row says what it is and whose.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from qvd.model.records import VM, Desired, Domain
from qvd.model.vm import QUEUES, Step, VMState


class Plan(Enum):
    """What to do with what was found."""

    LEAVE = "leave"
    ADOPT = "adopt"
    REAP = "reap"


@frozen
class Judgement:
    """The plan, the step at which a runner takes it up, and why, where a user should know.

    @ivar adopt_row: bring the row under this epoch first.
    @ivar again: its order is to be taken up once more: nothing has come of it yet but a place in a queue.
    """

    plan: Plan
    step: Step | None = None
    adopt_row: bool = False
    error: str | None = None
    again: bool = False


ENDED = "The virtual machine ended while its node was down"
INTERRUPTED = "The start was interrupted by a restart of the node"

_WAITED = {step.value for step in QUEUES}
_ADOPTED_AT = {
    VMState.STARTING: Step.AWAIT_GUEST,
    VMState.RUNNING: Step.RUNNING,
    VMState.STOPPING: Step.TERMINATE,
    VMState.ZOMBIE: Step.KILL,
}
_STOPPED_AT = {**_ADOPTED_AT, VMState.STARTING: Step.TERMINATE, VMState.RUNNING: Step.SHUTDOWN}


def judge(vm: VM | None, domain: Domain | None) -> Judgement:
    """Decide about one VM.

    @param vm: its row, where it names this node; else L{None}.
    @param domain: what the driver found of it, or L{None}.
    """
    if vm is None or vm.state is VMState.STOPPED:
        # Not ours by the row: whatever runs was started under an order that is over.
        return Judgement(Plan.LEAVE) if domain is None else Judgement(Plan.REAP, Step.KILL_LOST)
    if vm.phase in _WAITED and vm.state is VMState.STARTING and (domain is None or not domain.running):
        nothing = domain is None and vm.phase == Step.QUEUED.value
        again = vm.desired is Desired.RUNNING
        return Judgement(Plan.ADOPT, Step.RELEASE if nothing else Step.CLEAN, True, again=again)
    if domain is None or not domain.running:
        error = INTERRUPTED if vm.state is VMState.STARTING else ENDED
        return Judgement(Plan.ADOPT, Step.CLEAN, True, None if vm.state is VMState.STOPPING else error)
    if not same_run(vm, domain):
        return Judgement(Plan.ADOPT, Step.KILL, True, ENDED)
    # A stop that was taken up and not carried out: nobody orders it again.
    wanted = vm.desired is Desired.RUNNING or vm.generation > vm.acked
    return Judgement(Plan.ADOPT, (_ADOPTED_AT if wanted else _STOPPED_AT)[vm.state], True)


def same_run(vm: VM, domain: Domain) -> bool:
    """Does the domain belong to the run that the row speaks of? A start that was interrupted before its node had
    written where the guest listens is taken for the same."""
    if domain.guest is None:
        return False
    return vm.guest is None or vm.guest == domain.guest
