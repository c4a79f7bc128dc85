"""
No VM runs twice and all converges, in thousands of interleavings of a simulated farm; and what is broken is found.

C{QVD_INTERLEAVINGS=10000} runs as many different ones as issue 3 asks for, C{QVD_SEED=n} others than usual.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from qvd.hkd.heartbeat import Heartbeat
from tests.world.interleavings import explore
from tests.world.machine import Machine
from tests.world.observer import Violation
from tests.world.statements import MemoryDatabase

WANTED = int(os.environ.get("QVD_INTERLEAVINGS", "600"))
SEED = int(os.environ.get("QVD_SEED", "1"))
ENOUGH = 1000
"""Interleavings within which each of the faults below must be found."""


def test_no_interleaving_violates_the_invariants() -> None:
    tally = explore(WANTED, SEED)
    print(
        f"\n{tally.distinct} different interleavings of {tally.interleavings}, {tally.steps} steps, seed {SEED}:"
        f" 0 violations, converged within {tally.converged:g} s"
    )
    assert tally.distinct >= WANTED


def without(owner: Any, name: str, instead: Callable[..., Any]) -> AbstractContextManager[Any]:
    return patch.object(owner, name, instead)


def judged_before_its_time(db: MemoryDatabase, row: Any, margin: float, clock: Any, steady: float) -> bool:
    """A node is lost as soon as its renewal is late."""
    return OVERDUE(db, row, margin - 14.0, clock, steady)


OVERDUE = MemoryDatabase.is_overdue

Fault = tuple[type[Any], str, Callable[..., Any]]
FAULTS: dict[str, Fault] = {
    "the watchdog does nothing": (Machine, "watchdog", lambda self: None),
    "a node is lost before its lease is over": (MemoryDatabase, "is_overdue", judged_before_its_time),
    "nobody counts what is reserved": (MemoryDatabase, "reserved", lambda self, host_id: 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_rule_is_found(fault: str) -> None:
    owner, name, instead = FAULTS[fault]
    with without(owner, name, instead), pytest.raises(Violation):
        explore(ENOUGH, 1, shrink=False)


def test_fence_and_watchdog_stand_in_for_each_other() -> None:
    """Without the fence the watchdog keeps VMs from running twice; with neither they do."""
    with without(Heartbeat, "_set_fence", lambda self, sent_at: None):
        explore(100, 1)
        with without(Machine, "watchdog", lambda self: None), pytest.raises(Violation):
            explore(ENOUGH, 1, shrink=False)
