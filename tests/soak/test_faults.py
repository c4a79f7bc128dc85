"""
Faults on real nodes: in each of them no VM runs twice, and all is as it should be soon after.

C{make test} tries some of them, for a minute. All of them, in random order and for as long as one likes: C{make soak}.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.soak.boundaries import OPERATIONS, crash
from tests.soak.faultfarm import FaultFarm, fault_farm
from tests.soak.outcome import Outcome, Scenario
from tests.soak.pgproxy import Side
from tests.soak.scenarios import SCENARIOS, stopped

SHORT: dict[str, Scenario] = {
    # Nothing more happens in the other nine leases of the long form.
    "SIGSTOP, a lease and a half": stopped(1.5),
    **{
        name: SCENARIOS[name]
        for name in ("database mute, within", "database mute, beyond", "fail-over, node forgotten", "bells dropped")
    },
}
CRASHES = [
    ("place and start", 5, Side.AFTER),
    ("place and start", 12, Side.AFTER),
    ("take a session over", 4, Side.BEFORE),
    ("stop", 1, Side.AFTER),
]


@pytest.fixture(scope="module")
def farm() -> Iterator[FaultFarm]:
    with fault_farm() as made:
        yield made


def check(farm: FaultFarm, outcome: Outcome) -> None:
    """What must hold after each fault."""
    assert outcome.lost_sessions == 0
    assert farm.rest() == []
    assert farm.watch.violations() == []
    assert farm.second_line() == 0, "only the lock of the home has kept a VM from running twice"
    found = farm.tracebacks()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", SHORT)
def test_fault(farm: FaultFarm, name: str) -> None:
    check(farm, SHORT[name](farm))


@pytest.mark.parametrize(("operation", "number", "side"), CRASHES)
def test_crash_at_a_boundary(farm: FaultFarm, operation: str, number: int, side: Side) -> None:
    outcome = crash(farm, OPERATIONS[operation], number, side)
    assert outcome is not None, "there is a statement of this number"
    check(farm, outcome)
