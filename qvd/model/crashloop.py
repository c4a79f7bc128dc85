# -*- test-case-name: tests.unit.test_model_crashloop -*-
"""
When a VM that fails again and again may be tried once more.

Only what the VM itself does counts: a guest that does not come up, or ends by itself soon after. A node that has no
image, no room in its queue, or no lease any more says nothing about the VM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from qvd.model.errors import Unavailable
from qvd.model.records import VM
from qvd.model.vm import Event, Step

PATIENCE = 3
"""So many failures in a row make a crash loop; fewer are bad luck, and cost nothing."""
FIRST_PAUSE = 10.0
"""Seconds after the failure that makes it one. Each further one doubles it."""
LONGEST_PAUSE = 300.0
STEADY_SECONDS = 60.0
"""A run that lasted so long was a good one, however it ended."""

_BOOTING = (Step.BOOT, Step.AWAIT_GUEST)
_BROKEN = (Event.FAILED, Event.TIMED_OUT, Event.DOMAIN_EXITED)


class Ending(Enum):
    """What the end of a start, or of a run, says about the VM."""

    NEUTRAL = "neutral"
    FAILED = "failed"
    SETTLED = "settled"


def back_off(failures: int) -> float:
    """Seconds until the next start, after so many failures in a row."""
    if failures < PATIENCE:
        return 0.0
    doublings = min(failures - PATIENCE, math.ceil(math.log2(LONGEST_PAUSE / FIRST_PAUSE)))
    return min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)


def back_offs() -> Sequence[float]:
    """L{back_off} of 1, 2, … failures, up to the longest. More failures are like the last one."""
    pauses = [back_off(1)]
    while pauses[-1] < LONGEST_PAUSE:
        pauses.append(back_off(len(pauses) + 1))
    return pauses


def judge_ending(step: Step, event: Event, excused: bool, ran: float) -> Ending:
    """What it says about the VM that C{event} ended its start or its run.

    @param step: that it was in.
    @param excused: the failure was the node's.
    @param ran: seconds that it has been running.
    """
    if step is Step.RUNNING:
        broke = event in (Event.DOMAIN_EXITED, Event.GUEST_DEAD) and ran < STEADY_SECONDS
        return Ending.FAILED if broke else Ending.SETTLED
    if step in _BOOTING and event in _BROKEN and not excused:
        return Ending.FAILED
    return Ending.NEUTRAL


def loop_sentence(vm: VM) -> str | None:
    """For whoever wants to start the VM during its back-off; L{None} when there is none."""
    if not vm.retry_in:
        return None
    return (
        f"The virtual machine has failed {vm.failures} times in a row, and may be started again in"
        f" {math.ceil(vm.retry_in)} s. The last time: {vm.last_error or 'it ended by itself'}"
    )


def check_back_off(vm: VM) -> None:
    """@raise Unavailable: the VM may not be started yet."""
    sentence = loop_sentence(vm)
    if sentence is not None:
        raise Unavailable(sentence, retry_after=math.ceil(vm.retry_in or 0))
