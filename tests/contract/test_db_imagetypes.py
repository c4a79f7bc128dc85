"""Images of another type than the node's driver: refused where a VM is placed and where it is claimed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from qvd.db.vms import VMs
from qvd.model.errors import NotFound, Unavailable
from qvd.model.placement import Weights
from qvd.model.placement_words import describe
from qvd.model.records import Capacity, HostState, Lease
from tests.contract.stores import GIB, SECRET, World


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    made.vms = VMs(made.pool, Weights(random=0.0), lambda: 0.0)
    await made.pool.start()
    yield made
    await made.close()


async def node(world: World, name: str, driver: str | None) -> Lease:
    if name != "node1":
        world.new_host(name)
    lease = await world.hosts.register(name, "127.0.0.1", 30.0, driver)
    await world.hosts.renew(lease, 30.0, Capacity(8 * GIB, 2.0, 8 * GIB, 1.5))
    await world.hosts.set_state(lease, HostState.RUNNING)
    return lease


def image_is(world: World, kind: str) -> None:
    world.ask("UPDATE dis SET type = %s WHERE id = %s", kind, world.di)


async def refusal(world: World) -> str:
    with pytest.raises(Unavailable) as caught:
        await world.vms.order_start(world.vm_id, "test")
    return caught.value.text


@pytest_twisted.ensureDeferred
async def test_an_image_of_another_type_than_the_osf_needs_gets_no_node(world: World) -> None:
    await node(world, "node1", "lxc")
    world.ask("UPDATE osfs SET hypervisor = 'lxc'")
    image_is(world, "kvm")
    assert "is made for kvm, but the virtual machines of" in await refusal(world)
    assert "run under lxc" in world.row()["last_error"]


@pytest_twisted.ensureDeferred
async def test_the_images_type_picks_the_node_where_the_osf_does_not(world: World) -> None:
    await node(world, "node1", "lxc")
    right = await node(world, "node2", "kvm")
    image_is(world, "kvm")
    await world.vms.order_start(world.vm_id, "test")
    assert world.row()["host_id"] == right.host_id
    lines = describe(world.row()["placement"])
    assert lines[0] == "needs hypervisor kvm"
    assert lines[1].startswith("node1: rejected: it runs lxc, kvm is needed")


@pytest_twisted.ensureDeferred
async def test_without_a_fitting_node_the_sentence_names_the_driver(world: World) -> None:
    await node(world, "node1", "lxc")
    image_is(world, "kvm")
    assert await refusal(world) == "No node can take this virtual machine: node1 runs lxc, kvm is needed"


@pytest_twisted.ensureDeferred
async def test_a_tag_that_moved_to_another_type_is_refused_by_the_node_that_claims(world: World) -> None:
    lease = await node(world, "node1", "lxc")
    image_is(world, "lxc")
    await world.vms.order_start(world.vm_id, "test")
    image_is(world, "kvm")
    with pytest.raises(NotFound, match="is made for kvm, but this node runs lxc"):
        await world.ownership.claim_start(lease, world.vm_id, SECRET)
    assert world.row()["vm_state"] == "stopped"


@pytest_twisted.ensureDeferred
async def test_a_fitting_image_is_claimed_with_its_type(world: World) -> None:
    lease = await node(world, "node1", "lxc")
    image_is(world, "lxc")
    await world.vms.order_start(world.vm_id, "test")
    spec = await world.ownership.claim_start(lease, world.vm_id, SECRET)
    assert spec is not None
    assert spec.image_type == "lxc"
