"""A write that is late is about a run that is over, and does not touch the next one, be it in the same epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from qvd.model.errors import OwnershipLost
from qvd.model.ids import Epoch, Run
from qvd.model.records import Change, Guest, Held, Lease, VMSpec
from qvd.model.vm import VMState
from tests.contract.stores import SECRET, World

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)
RUNS = Change(VMState.RUNNING, "running", "Running", GUEST)
ENDS = Change(VMState.STOPPING, "powering off", "Powering off")


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


async def run_twice(world: World) -> tuple[Lease, VMSpec, VMSpec]:
    """One run that is over, and the next one, which has been claimed."""
    lease = await world.running_host()
    former = await world.claimed(lease)
    await world.ownership.release(lease, world.vm_id, None, run=former.run)
    return lease, former, await world.claimed(lease)


@pytest_twisted.ensureDeferred
async def test_each_claim_is_a_run_of_its_own(world: World) -> None:
    lease, former, present = await run_twice(world)
    assert (former.run, present.run) == (1, 2)
    (vm,) = await world.ownership.bound(lease)
    assert vm.run == present.run


@pytest_twisted.ensureDeferred
async def test_a_claim_of_an_older_release_is_counted_too(world: World) -> None:
    world.ask(
        "UPDATE vm_runtimes SET vm_state = 'starting', host_id = %s, host_epoch = 1 WHERE vm_id = %s",
        world.host,
        world.vm_id,
    )
    assert world.row()["run"] == 1


@pytest_twisted.ensureDeferred
async def test_a_run_has_one_number(world: World) -> None:
    lease, _, present = await run_twice(world)
    ownership, vm_id, run = world.ownership, world.vm_id, present.run
    await ownership.save(lease, vm_id, VMState.STARTING, RUNS, run)
    await ownership.save(lease, vm_id, VMState.RUNNING, ENDS, run)
    await ownership.progress(lease, vm_id, "powering off", "nearly there", run)
    assert (world.row()["run"], world.row()["detail"]) == (run, "nearly there")
    await ownership.release(lease, vm_id, None, run=run)
    assert (world.row()["run"], world.row()["vm_state"]) == (run, "stopped")


@pytest_twisted.ensureDeferred
async def test_a_write_of_a_former_run_changes_nothing(world: World) -> None:
    lease, former, present = await run_twice(world)
    ownership, vm_id = world.ownership, world.vm_id
    await ownership.save(lease, vm_id, VMState.STARTING, RUNS, present.run)
    before = world.row()
    with pytest.raises(OwnershipLost):
        await ownership.save(lease, vm_id, VMState.RUNNING, ENDS, former.run)
    with pytest.raises(OwnershipLost):
        await ownership.release(lease, vm_id, "it ended", run=former.run)
    await ownership.progress(lease, vm_id, "running", "of the former run", former.run)
    assert world.row() == before


@pytest_twisted.ensureDeferred
async def test_an_adoption_of_a_former_run_changes_nothing(world: World) -> None:
    lease = await world.running_host()
    former = await world.claimed(lease)
    (vm,) = await world.ownership.bound(lease)
    await world.ownership.release(lease, world.vm_id, None, run=former.run)
    await world.claimed(lease)
    with pytest.raises(OwnershipLost):
        await world.ownership.adopt(lease, vm)


@pytest_twisted.ensureDeferred
async def test_a_row_grants_one_run(world: World) -> None:
    lease, former, present = await run_twice(world)
    account, vm_id = world.ownership.account, world.vm_id
    assert await account(lease, [Held(vm_id, VMState.STARTING, None, present.run)]) == []
    assert await account(lease, [Held(vm_id, VMState.STARTING, None, former.run)]) == [vm_id]
    assert await account(lease, [Held(vm_id, VMState.STARTING, None, Run(present.run + 1))]) == [vm_id]


@pytest_twisted.ensureDeferred
async def test_what_nobody_carries_is_pending_whatever_its_epoch(world: World) -> None:
    old = await world.running_host()
    await world.claimed(old)
    new = await world.running_host()
    assert [vm.epoch for vm in await world.ownership.pending(new, [])] == [old.epoch]
    assert await world.ownership.pending(new, [world.vm_id]) == []
    assert await world.ownership.pending(Lease(new.host_id, Epoch(old.epoch - 1)), []) == [], "a newer epoch's"


@pytest_twisted.ensureDeferred
async def test_nothing_is_adopted_under_an_epoch_that_the_server_does_not_know(world: World) -> None:
    lease = await world.running_host()
    await world.claimed(lease)
    (vm,) = await world.ownership.bound(lease)
    with pytest.raises(OwnershipLost):
        await world.ownership.adopt(Lease(lease.host_id, Epoch(lease.epoch + 1)), vm)
    assert world.row()["host_epoch"] == lease.epoch
