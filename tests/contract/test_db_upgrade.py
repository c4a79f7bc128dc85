"""Sessions of one node that two of its processes serve, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg2
import pytest_twisted
from twisted.internet.defer import Deferred

from qvd.db.sessions import Sessions
from qvd.model.ids import SessionId
from qvd.model.records import HostState, Lease
from tests.contract.stores import World
from tests.contract.test_db_cluster import waiting_for_locks

REASON = "The node was restarted"


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


class Process:
    """One process of the node, and its sessions."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.instance = str(uuid4())
        self.store = Sessions(world.pool, self.instance)

    async def session(self, lease: Lease) -> SessionId:
        """A new one, of a VM of its own."""
        spec = self.world.session(lease, self.world.new_vm(str(uuid4())))
        await self.store.claim(spec)
        await self.store.connected(spec.session_id)
        return spec.session_id


def open_sessions(world: World) -> set[str]:
    return {row["id"] for row in world.ask("SELECT id::text FROM sessions WHERE ended_at IS NULL")}


@pytest_twisted.ensureDeferred
async def test_each_process_looks_at_its_own_sessions(world: World) -> None:
    lease = await world.running_host()
    one, two = Process(world), Process(world)
    first, second = await one.session(lease), await two.session(lease)
    assert await one.store.unended(lease.host_id) == {first: None}
    assert await two.store.unended(lease.host_id) == {second: None}
    assert await world.sessions.unended(lease.host_id) == {}


@pytest_twisted.ensureDeferred
async def test_a_registration_spares_the_sessions_of_living_processes(world: World) -> None:
    old = await world.running_host()
    dead, retired = Process(world), Process(world)
    ended, kept = await dead.session(old), await retired.session(old)
    new = await world.hosts.register("node1", "127.0.0.1", 30.0, state=HostState.RUNNING)
    assert await world.hosts.end_stale_sessions(new, REASON, [retired.instance, str(uuid4())]) == 1
    assert open_sessions(world) == {kept}
    (row,) = world.ask("SELECT * FROM sessions WHERE id = %s", ended)
    assert (row["state"], row["end_reason"]) == ("disconnected", REASON)
    assert [
        row["session_id"] for row in world.ask("SELECT session_id::text FROM vm_runtimes") if row["session_id"]
    ] == [kept]


@pytest_twisted.ensureDeferred
async def test_what_a_retired_process_had_claimed_under_this_epoch_ends_with_it(world: World) -> None:
    lease = await world.running_host()
    serving, retired = Process(world), Process(world)
    kept = await serving.session(lease)
    await retired.session(lease)
    both = [serving.instance, retired.instance]
    assert await world.hosts.end_stale_sessions(lease, REASON, both) == 0
    assert await world.hosts.end_stale_sessions(lease, REASON, [serving.instance]) == 1
    assert open_sessions(world) == {kept}


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_behind_ends_nothing_of_its_successor(world: World) -> None:
    behind = await world.running_host()
    lease = await world.running_host()
    kept = await Process(world).session(lease)
    assert await world.hosts.end_stale_sessions(behind, REASON, []) == 0
    assert open_sessions(world) == {kept}


@pytest_twisted.ensureDeferred
async def test_of_a_session_without_a_process_the_epoch_decides(world: World) -> None:
    """An older release writes none."""
    old = await world.running_host()
    await world.sessions.claim(world.session(old))
    lease = await world.running_host()
    current = world.session(lease, world.new_vm("other"))
    await world.sessions.claim(current)
    assert await world.hosts.end_stale_sessions(lease, REASON, [str(uuid4())]) == 1
    assert open_sessions(world) == {current.session_id}


@pytest_twisted.ensureDeferred
async def test_another_nodes_sessions_are_its_own(world: World) -> None:
    world.new_host("node2")
    other = await world.running_host(name="node2")
    kept = await Process(world).session(other)
    lease = await world.running_host()
    assert await world.hosts.end_stale_sessions(lease, REASON, []) == 0
    assert open_sessions(world) == {kept}


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_taken_over_is_never_only_starting(world: World) -> None:
    first = await world.running_host()
    second = await world.hosts.register("node1", "127.0.0.1", 30.0, state=HostState.RUNNING)
    assert second.epoch == first.epoch + 1
    assert world.ask("SELECT state FROM host_runtimes") == [{"state": "running"}]


@pytest_twisted.ensureDeferred
async def test_the_vm_is_locked_before_its_session(world: World, database: str) -> None:
    """As by whoever declares the node lost at that moment: else each would wait for the other."""
    await Process(world).session(await world.running_host())
    lease = await world.running_host()
    holder = psycopg2.connect(database)
    with holder.cursor() as cursor:
        cursor.execute("SELECT FROM vm_runtimes FOR UPDATE")
        ending = Deferred.fromCoroutine(world.hosts.end_stale_sessions(lease, REASON, []))
        await waiting_for_locks(world, 1)
        cursor.execute("SELECT FROM sessions FOR UPDATE NOWAIT")
    holder.rollback()
    holder.close()
    assert await ending == 1
