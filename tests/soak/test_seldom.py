"""Interleavings that random ones seldom meet, each with the line of defence that it needs, and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from qvd.model.errors import OwnershipLost
from qvd.model.ids import Epoch, Generation, HostId, Run, VMId
from qvd.model.records import VM, Change, HostState, Lease
from qvd.model.vm import VMState
from tests.world.daemon import LEASE
from tests.world.farm import Farm
from tests.world.observer import Violation, judge, unsettled
from tests.world.statements import MemoryDatabase


def farms(machines: int = 2) -> Iterator[Farm]:
    """Farms with one VM, which runs; judged at each moment until the last one is done with."""
    for number in range(6):
        farm = Farm(machines, vms=1, seed=number)
        farm.judge = partial(judge, farm)
        farm.advance(6.0)
        assert farm.order(1, True) is None
        farm.advance(4.0)
        yield farm


def the_vm(farm: Farm) -> tuple[VM, HostId, Lease]:
    """As its row says, with its node."""
    vm = farm.db.vms[VMId(1)].vm
    assert vm.host_id is not None and vm.epoch is not None
    return vm, vm.host_id, Lease(vm.host_id, vm.epoch)


def settle(farm: Farm) -> None:
    """Long after."""
    farm.advance(60.0)
    if left := unsettled(farm):
        raise Violation("; ".join(left))


def holds_but_without(scenario: Callable[[], None], *patches: Any) -> None:
    """The scenario is survived, and is a violation when the defence is gone."""
    scenario()
    for each in patches:
        each.start()
    try:
        with pytest.raises(Violation):
            scenario()
    finally:
        for each in patches:
            each.stop()


def without(owner: Any, name: str, instead: Callable[..., Any]) -> Any:
    return patch.object(owner, name, instead)


def a_former_daemon_acknowledges_a_stop() -> None:
    """What it wrote takes effect when its successor has looked already."""
    for farm in farms():
        vm, host_id, former = the_vm(farm)
        farm.crash(host_id)
        farm.order(1, False)
        farm.plans[host_id, "adopt"].append("answered late")
        farm.restart(host_id)
        farm.later(0.5, partial(farm.db.acknowledge, former, vm.vm_id, Generation(vm.generation + 1)))
        settle(farm)


def test_a_stop_taken_up_by_a_former_daemon_is_not_forgotten() -> None:
    holds_but_without(a_former_daemon_acknowledges_a_stop, without(MemoryDatabase, "goes_on", lambda self, vm: False))


def a_former_daemon_adopts() -> None:
    """It takes effect between its successor's look at the rows and the successor's own adoption."""
    for farm in farms():
        vm, host_id, _ = the_vm(farm)
        farm.lose_power(host_id)
        former = farm.db.register(f"n{host_id}", LEASE.lease)
        farm.plans[host_id, "bound"].append("answered late")
        farm.restart(host_id)
        farm.later(0.5, partial(farm.db.adopt, former, vm))
        settle(farm)


def test_an_adoption_by_a_former_daemon_comes_to_its_end() -> None:
    def of_this_epoch(self: MemoryDatabase, vm: VM, lease: Lease) -> bool:
        return vm.epoch == lease.epoch and vm.state is not VMState.STOPPED

    # The registration may be committed while the adoption is under way: it does not see it then.
    with without(MemoryDatabase, "is_present", lambda self, lease: True):
        holds_but_without(a_former_daemon_adopts, without(MemoryDatabase, "is_ours", of_this_epoch))


def a_fail_over_forgets_an_epoch() -> None:
    """The node adopts its VM under it all the same, before its renewal is refused; and the VM ends."""
    for farm in farms():
        vm, host_id, _ = the_vm(farm)
        farm.lose_power(host_id)
        forgotten = Lease(host_id, Epoch(farm.db.hosts[host_id].epoch + 2))
        with suppress(OwnershipLost):
            farm.db.adopt(forgotten, vm)
        farm.restart(host_id)
        settle(farm)


def test_no_row_is_of_an_epoch_that_was_forgotten() -> None:
    holds_but_without(a_fail_over_forgets_an_epoch, without(MemoryDatabase, "is_present", lambda self, lease: True))


def a_former_daemon_saves() -> None:
    """It was asked to stop the VM by nobody but its own orderly end, and was killed in the middle of that."""
    for farm in farms():
        vm, host_id, former = the_vm(farm)
        farm.crash(host_id)
        farm.restart(host_id)
        farm.later(5.0, partial(attempt, farm, former, vm))
        settle(farm)


def attempt(farm: Farm, lease: Lease, vm: VM) -> None:
    """A late C{save} by whoever had that lease."""
    try:
        farm.db.save(lease, vm.vm_id, VMState.RUNNING, Change(VMState.STOPPING, "terminating", ""), vm.run)
    except OwnershipLost:
        pass


def test_what_a_former_daemon_saves_late_changes_nothing() -> None:
    def owned(self: MemoryDatabase, lease: Lease, vm_id: VMId, run: Run | None) -> VM:
        return self.vms[vm_id].vm

    holds_but_without(a_former_daemon_saves, without(MemoryDatabase, "owned", owned))


def a_fail_over_forgets_a_claim() -> None:
    """The desktop runs, its row says that it is stopped and free, and the next order places it on another node."""
    for farm in farms(machines=3):
        farm.restart_database(back=5.0)
        farm.advance(1.0)
        assert farm.order(1, True) is None
        settle(farm)


def test_a_fail_over_that_forgets_a_claim_starts_nothing_twice() -> None:
    holds_but_without(
        a_fail_over_forgets_a_claim,
        without(MemoryDatabase, "settled", lambda self: True),
        without(MemoryDatabase, "account", lambda self, lease, held: []),
    )


def test_a_fail_over_that_forgets_that_a_node_runs() -> None:
    farm = Farm(machines=2, vms=1, seed=1)
    farm.advance(14.0)
    farm.restart_database()
    for number in (1, 2):
        farm.db.write_host(HostId(number), state=HostState.STARTING)
    farm.advance(10.0)
    assert unsettled(farm) == []


@pytest.mark.parametrize("statement", ["release", "save"])
def test_a_late_write_of_a_former_run_changes_nothing(statement: str) -> None:
    """It was given up and repeated, and takes effect when the same node runs the VM again, in the same epoch."""

    def late() -> None:
        for farm in farms():
            _, host_id, _ = the_vm(farm)
            farm.plans[host_id, statement].append("late")
            farm.order(1, False)
            farm.db.write_host(HostId(3 - host_id), blocked=True)
            for _ in range(20):
                farm.advance(1.0)
                farm.order(1, True)
            settle(farm)
            if farm.machine(host_id).started != 2:
                raise Violation("the desktop was ended by what was meant for the former one")

    holds_but_without(late, without(MemoryDatabase, "same_run", lambda self, vm, run: True))
