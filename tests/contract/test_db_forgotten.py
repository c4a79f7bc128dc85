"""A server that is new to the nodes, and may have forgotten what an older one granted: who may start a VM, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted

from qvd.model.ids import VMId
from qvd.model.records import Change, Guest, Held, Lease
from qvd.model.vm import VMState
from tests.contract.stores import SECRET, World

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)
FORMER = "another server"


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    made.new_host("node2")
    await made.pool.start()
    yield made
    await made.close()


async def run(world: World, lease: Lease) -> Held:
    """The VM runs on the node."""
    await world.claimed(lease)
    change = Change(VMState.RUNNING, "running", "Running", GUEST)
    await world.ownership.save(lease, world.vm_id, VMState.STARTING, change)
    return Held(world.vm_id, VMState.RUNNING, GUEST.vma_port)


def come_from(world: World, lease: Lease) -> None:
    """The node was on another server before."""
    world.ask("UPDATE host_runtimes SET server = %s WHERE host_id = %s", FORMER, lease.host_id)


async def may_start(world: World, lease: Lease) -> bool:
    return await world.ownership.claim_start(lease, world.vm_id, SECRET) is not None


def server_of(world: World, lease: Lease) -> str | None:
    name: str | None = world.ask("SELECT server FROM host_runtimes WHERE host_id = %s", lease.host_id)[0]["server"]
    return name


class TestStarts:
    @pytest_twisted.ensureDeferred
    async def test_wait_for_a_node_that_was_on_another_server(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        come_from(world, two)
        world.ask("UPDATE host_runtimes SET usable_ram = 0 WHERE host_id = %s", two.host_id)
        await world.vms.order_start(world.vm_id, "test")
        await world.ownership.account(one, [])
        assert not await may_start(world, one)
        assert await world.ownership.account(two, []) == []
        assert await may_start(world, one)

    @pytest_twisted.ensureDeferred
    async def test_wait_for_it_no_longer_than_a_lease(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        come_from(world, two)
        world.ask("UPDATE host_runtimes SET usable_ram = 0 WHERE host_id = %s", two.host_id)
        await world.vms.order_start(world.vm_id, "test")
        await world.ownership.account(one, [])
        world.ask("UPDATE servers SET since = since - interval '29 seconds'")
        assert not await may_start(world, one)
        world.ask("UPDATE servers SET since = since - interval '2 seconds'")
        assert await may_start(world, one)

    @pytest_twisted.ensureDeferred
    async def test_wait_for_nobody_on_a_server_that_all_know(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        for lease in (one, two):
            await world.ownership.account(lease, [])
        assert server_of(world, one) == server_of(world, two) is not None
        world.ask("UPDATE host_runtimes SET usable_ram = 0 WHERE host_id = %s", two.host_id)
        await world.claimed(one)


class TestAccounts:
    @pytest_twisted.ensureDeferred
    async def test_what_the_row_grants_is_kept(self, world: World) -> None:
        lease = await world.running_host()
        held = await run(world, lease)
        come_from(world, lease)
        assert await world.ownership.account(lease, [held]) == []
        assert server_of(world, lease) not in (None, FORMER)

    @pytest_twisted.ensureDeferred
    async def test_what_no_row_grants_is_told_on_every_server(self, world: World) -> None:
        lease, other = await world.running_host(), await world.running_host(name="node2")
        held = await run(world, lease)
        await world.ownership.account(lease, [held])
        stranger = VMId(world.vm_id + 1)
        assert await world.ownership.account(lease, [Held(stranger, None)]) == [stranger]
        for change in ("vm_state = 'stopped'", "host_epoch = host_epoch + 1", f"host_id = {other.host_id}"):
            world.ask(f"UPDATE vm_runtimes SET vm_state = 'running', host_epoch = {lease.epoch}")
            assert await world.ownership.account(lease, [held]) == []
            world.ask(f"UPDATE vm_runtimes SET {change}")
            assert await world.ownership.account(lease, [held]) == [world.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_a_node_with_something_that_differs_stays_a_stranger(self, world: World) -> None:
        lease = await world.running_host()
        held = await run(world, lease)
        come_from(world, lease)
        world.ask("UPDATE vm_runtimes SET host_epoch = host_epoch - 1")
        assert await world.ownership.account(lease, [held]) == [world.vm_id]
        assert server_of(world, lease) == FORMER
        assert await world.ownership.account(lease, []) == []
        assert server_of(world, lease) != FORMER

    @pytest_twisted.ensureDeferred
    async def test_an_older_row_is_another_one_on_a_new_server_only(self, world: World) -> None:
        lease = await world.running_host()
        held = await run(world, lease)
        older = Held(world.vm_id, VMState.STARTING), Held(world.vm_id, VMState.RUNNING, GUEST.vma_port + 1)
        await world.ownership.account(lease, [held])
        assert [await world.ownership.account(lease, [each]) for each in older] == [[], []]
        come_from(world, lease)
        assert [await world.ownership.account(lease, [each]) for each in older] == [[world.vm_id]] * 2

    @pytest_twisted.ensureDeferred
    async def test_a_state_that_is_being_written_is_not_compared(self, world: World) -> None:
        lease = await world.running_host()
        await run(world, lease)
        come_from(world, lease)
        assert await world.ownership.account(lease, [Held(world.vm_id, None)]) == []

    @pytest_twisted.ensureDeferred
    async def test_a_node_without_its_lease_says_nothing(self, world: World) -> None:
        lease = await world.running_host()
        come_from(world, lease)
        await world.running_host()
        come_from(world, lease)
        await world.ownership.account(lease, [])
        assert server_of(world, lease) == FORMER
