"""What each scenario tells, and what several need."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from tests.integration.farm import eventually
from tests.soak.faultfarm import BOUND, FaultFarm, FaultNode


@frozen
class Outcome:
    """Figures of one scenario.

    @ivar converge_s: seconds from the end of what was wrong until all was as it should be.
    @ivar lost_sessions: sessions that this should not have ended, and did.
    """

    converge_s: float
    lost_sessions: int = 0


Scenario = Callable[[FaultFarm], Outcome]


def taken_over(farm: FaultFarm, vm_id: int, by: FaultNode) -> float:
    """The node of a VM is lost: wait until it is free, and run it on another one. From now to its running there."""
    began = time.monotonic()
    eventually(lambda: farm.vm(vm_id)["host_id"] is None, f"VM {vm_id} is free", BOUND)
    farm.order_on(by, vm_id)
    farm.converge(f"VM {vm_id} runs on {by.name}", also=lambda: farm.runs_on(vm_id) is by)
    return time.monotonic() - began
