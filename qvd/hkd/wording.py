# -*- test-case-name: tests.unit.test_hkd_wording,tests.unit.test_hkd_runner -*-
"""What the user reads while a VM is on its way, and why it ended."""

from __future__ import annotations

from qvd.model.vm import Event, Step, Work

DETAIL = {
    Step.QUEUED: "Waiting in the queue of its node",
    Step.PREPARE: "Preparing to start",
    Step.PREPARED: "Waiting in the queue of its node",
    Step.BOOT: "Booting",
    Step.AWAIT_GUEST: "Waiting for the desktop's agent",
    Step.RUNNING: "Running",
    Step.SHUTDOWN: "Asking the guest to power off",
    Step.AWAIT_EXIT: "Powering off",
    Step.TERMINATE: "Terminating",
    Step.KILL: "Killing",
    Step.CLEAN: "Cleaning up",
    Step.RELEASE: "Cleaning up",
    Step.STUCK: "Cannot be ended; trying again",
}
PURPOSE = {Work.UNPACK: "to be prepared", Work.BOOT: "to boot", Work.STOP: "to be stopped"}
EXACT = 20
"""Positions up to this are told as they are. Farther ones are rounded, so that a queue of thousands that moves by one
does not mean a thousand writes: each VM's text changes about ten times in each power of ten."""


def place_in_queue(position: int, node: str, work: Work) -> str:
    """@param position: 1 is next."""
    return f"Position {rounded(position)} in the queue of node {node}, waiting {PURPOSE[work]}"


def rounded(position: int) -> str:
    if position <= EXACT:
        return str(position)
    unit = 10
    while position > 10 * unit:
        unit *= 10
    return f"about {-(-position // unit) * unit}"


def blame(step: Step, event: Event) -> str:
    """Why a start or a run ended, where nobody has said it better."""
    if event is Event.TIMED_OUT and step in (Step.QUEUED, Step.PREPARED):
        return "Its node was busy with other virtual machines for too long; try again"
    return {
        Event.TIMED_OUT: f"The virtual machine was not up in time ({step.value})",
        Event.GUEST_DEAD: "The desktop's agent does not answer any more",
        Event.DOMAIN_EXITED: "The virtual machine ended by itself",
    }.get(event, f"The virtual machine failed ({step.value})")
