"""
C{make soak}: faults in random order on a farm of two real nodes, for C{SOAK_MINUTES}; the last line is JSON.

C{SOAK_SEED} repeats an order. With names of scenarios on its command line, C{python -m tests.soak} tries these, once.
C{SOAK_TIMES=default} is with the times of real nodes. After each fault an observer outside the nodes is asked for
violations of "no VM runs twice", and the farm for what was left behind. Before that a simulated farm goes through
some interleavings.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from itertools import count

from attrs import define, evolve

from tests.soak.boundaries import OPERATIONS, Operation, boundaries, crash
from tests.soak.clocks import fake_time_library
from tests.soak.faultfarm import FaultFarm, fault_farm
from tests.soak.outcome import Outcome
from tests.soak.pgproxy import Side
from tests.soak.scenarios import SCENARIOS
from tests.world.interleavings import explore
from tests.world.observer import Violation

Fault = Callable[[FaultFarm], Outcome]
INTERLEAVINGS = 300
"""Of the simulated farm, different ones: some seconds."""
LINES = 30
"""Of a node's log, when a fault was not survived."""
CRASHES = 1
"""Crashes at a boundary for each scenario: twenty scenarios and as many crashes are about seven minutes."""


@define
class Total:
    """The last line. A start that only the lock of the home has stopped counts as a violation: fencing has failed."""

    scenarios: int = 0
    violations: int = 0
    converge_s_max: float = 0.0
    lost_sessions: int = 0
    leaks: int = 0
    failed: int = 0

    @property
    def good(self) -> bool:
        return not (self.violations or self.lost_sessions or self.leaks or self.failed)

    def line(self) -> str:
        names = ("scenarios", "violations", "converge_s_max", "lost_sessions", "leaks")
        return json.dumps({name: round(getattr(self, name), 2) for name in names})


def at_boundary(operation: Operation, number: int, side: Side, back: bool) -> Fault:
    def fault(farm: FaultFarm) -> Outcome:
        return crash(farm, operation, number, side, back) or Outcome(0.0)

    return fault


def all_crashes(farm: FaultFarm) -> dict[str, Fault]:
    found: dict[str, Fault] = {}
    for name, operation in OPERATIONS.items():
        number = boundaries(farm, operation)
        farm.rest()
        print(f"{name}: {number} statements", flush=True)
        for k in range(1, number + 1):
            for side in Side:
                what = f"{name}, SIGKILL {side.value} statement {k}"
                found[what] = at_boundary(operation, k, side, True)
                if operation.node == 0:
                    # The other one is there, and takes over.
                    found[f"{what}, for good"] = at_boundary(operation, k, side, False)
    return found


def deck(crashes: dict[str, Fault], rng: random.Random) -> list[tuple[str, Fault]]:
    """Every scenario once, each followed by some crashes; then the other crashes."""
    scenarios, rest = list(SCENARIOS.items()), list(crashes.items())
    rng.shuffle(scenarios)
    rng.shuffle(rest)
    cards: list[tuple[str, Fault]] = []
    for scenario in scenarios:
        cards += [scenario, *rest[:CRASHES]]
        del rest[:CRASHES]
    return cards + rest


def suffer(farm: FaultFarm, name: str, fault: Fault, total: Total) -> bool:
    """One fault; its figures are added to the total.

    @return: whether the farm is fit for another one.
    """
    began, before = time.monotonic(), len(farm.watch.violations()) + farm.second_line()
    total.scenarios += 1
    outcome, fit = Outcome(0.0), True
    try:
        outcome = fault(farm)
    except Exception:  # noqa: BLE001  whatever it is, the others are still to be tried
        traceback.print_exc(limit=-4, file=sys.stdout)
        for node in farm.nodes:
            print(f"the end of {node.name}'s log:", *node.log.splitlines()[-LINES:], sep="\n    ")
        total.failed += 1
        fit = False
    leaks = farm.rest()
    violations = len(farm.watch.violations()) + farm.second_line() - before
    total.violations += violations
    total.leaks += len(leaks)
    total.lost_sessions += outcome.lost_sessions
    total.converge_s_max = max(total.converge_s_max, outcome.converge_s)
    told = evolve(outcome, converge_s=round(outcome.converge_s, 2))
    seconds = time.monotonic() - began
    print(f"{name}: {told}, {violations} violations, left: {leaks}, {seconds:.1f} s in all", flush=True)
    return fit and not leaks


def interleave(seed: int, total: Total) -> None:
    """The simulated farm, whose seconds are none: a portion of its interleavings is one scenario."""
    total.scenarios += 1
    began = time.monotonic()
    try:
        tally = explore(INTERLEAVINGS, seed)
    except Violation:
        traceback.print_exc(limit=-1, file=sys.stdout)
        total.violations += 1
    except Exception:  # noqa: BLE001  whatever it is, the faults are still to be tried
        traceback.print_exc(file=sys.stdout)
        total.failed += 1
    else:
        seconds = time.monotonic() - began
        print(f"{tally.distinct} different interleavings of a simulated farm: 0 violations, {seconds:.1f} s in all")


def soak(minutes: float, seed: int) -> Total:
    """@return: what to print last."""
    rng, total, until = random.Random(seed), Total(), time.monotonic() + minutes * 60
    interleave(seed, total)
    cards: list[tuple[str, Fault]] = []
    known: dict[str, Fault] = {}
    for round_ in count(1):
        with fault_farm() as farm:
            known = known or all_crashes(farm)
            while time.monotonic() < until:
                cards = cards or deck(known, rng)
                if not suffer(farm, *cards.pop(0), total):
                    print(f"farm {round_} is given up", flush=True)
                    break
            total.leaks += len(farm.tracebacks())
        if time.monotonic() >= until:
            return total
    raise AssertionError("count ends never")


def these(names: list[str]) -> Total:
    """Some scenarios, on a farm for each. @return: what to print last."""
    total = Total()
    for name in names:
        with fault_farm() as farm:
            suffer(farm, name, SCENARIOS[name], total)
            total.leaks += len(farm.tracebacks())
    return total


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in SCENARIOS]:
        print(f"unknown: {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
    minutes = float(os.environ.get("SOAK_MINUTES") or 5)
    print(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g}", flush=True)
    if fake_time_library() is None:
        print("The Debian package faketime is not installed: no clocks are set", flush=True)
    total = these(names) if names else soak(minutes, seed)
    print(f"{total.failed} faults were not survived" if total.failed else "all faults were survived", flush=True)
    print(total.line(), flush=True)
    return 0 if total.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
