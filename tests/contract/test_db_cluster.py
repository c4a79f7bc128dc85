"""What one node does to the rows of another that is silent, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from qvd.db.sessions import GONE, TAKEN
from qvd.model.errors import OwnershipLost, SessionLost, Unavailable
from qvd.model.host import LOST_PHASE
from qvd.model.ids import VMId
from qvd.model.records import Capacity, Change, Desired, Domain, Guest, Lease, LostNode
from qvd.model.recovery import judge
from qvd.model.vm import Step, VMState
from qvd.protocols.channels import session_on_host
from tests.contract.stores import GIB, SECRET, World
from tests.fakes.postgres import RealPostgres

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)
RAN = "The node node1, on which this desktop ran, does not answer any more"
MARGIN, STEADY = 5.0, 30.0


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    made.new_host("node2")
    await made.pool.start()
    yield made
    await made.close()


def later(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


async def run(world: World, lease: Lease, vm_id: VMId | None = None) -> None:
    """Have the VM run on the node of the lease, which must be the only one."""
    await world.claimed(lease, vm_id)
    change = Change(VMState.RUNNING, "running", "Running", GUEST)
    await world.ownership.save(lease, vm_id or world.vm_id, VMState.STARTING, change)


def silence(world: World, lease: Lease, seconds: float = 6.0) -> None:
    """The node's lease has been over for so long."""
    world.ask(
        "UPDATE host_runtimes SET lease_until = now() - %s * interval '1 second',"
        " ok_ts = now() - (%s + 30) * interval '1 second' WHERE host_id = %s",
        seconds,
        seconds,
        lease.host_id,
    )


async def declare(world: World, lease: Lease, steady: float = STEADY) -> list[LostNode]:
    clock = await world.hosts.read_clock()
    return list(await world.hosts.declare_lost(lease, MARGIN, clock, steady))


def state(world: World, lease: Lease) -> str:
    rows = world.ask("SELECT state FROM host_runtimes WHERE host_id = %s", lease.host_id)
    return str(rows[0]["state"])


class TestWhoIsLost:
    @pytest_twisted.ensureDeferred
    async def test_a_live_node_and_one_within_the_margin_are_not(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        assert await declare(world, two) == []
        silence(world, one, 4.0)
        assert await declare(world, two) == []
        assert state(world, one) == "running"

    @pytest_twisted.ensureDeferred
    async def test_a_silent_one_is_once(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 0, 0)]
        assert await declare(world, two) == []
        assert state(world, one) == "lost"
        (event,) = world.events("host.lost")
        assert (event["host_id"], event["cause"]) == (one.host_id, "node1 is lost, noticed by node2")
        assert (event["before"]["state"], event["after"]["state"]) == ("running", "lost")

    @pytest_twisted.ensureDeferred
    async def test_in_whatever_state_it_is(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        for was in ("starting", "running", "stopping"):
            world.ask("UPDATE host_runtimes SET state = %s WHERE host_id = %s", was, one.host_id)
            silence(world, one)
            assert len(await declare(world, two)) == 1, was

    @pytest_twisted.ensureDeferred
    async def test_one_that_stopped_in_order_is_not_lost_unless_it_left_something(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        world.ask("UPDATE host_runtimes SET state = 'stopped' WHERE host_id = %s", one.host_id)
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 1, 0)]
        world.ask("UPDATE host_runtimes SET state = 'stopped' WHERE host_id = %s", one.host_id)
        assert await declare(world, two) == []
        assert state(world, one) == "stopped"

    @pytest_twisted.ensureDeferred
    async def test_what_a_lost_node_leaves_behind_later_is_swept_up(self, world: World) -> None:
        """Whatever wrote it: an older release, say, which did not look at its lease."""
        one, two = await world.running_host(), await world.running_host(name="node2")
        session = world.session(one)
        await world.sessions.claim(session)
        silence(world, one)
        await declare(world, two)
        world.ask("UPDATE sessions SET state = 'connecting', ended_at = NULL, end_reason = NULL")
        world.ask("UPDATE vm_runtimes SET session_id = %s WHERE vm_id = %s", session.session_id, world.vm_id)
        assert await declare(world, two) == [LostNode("node1", 0, 1)]
        assert world.row()["session_id"] is None
        assert len(world.events("host.lost")) == 1

    @pytest_twisted.ensureDeferred
    async def test_a_node_without_a_live_lease_judges_nobody(self, world: World) -> None:
        one, old = await world.running_host(), await world.running_host(name="node2")
        silence(world, one)
        two = await world.running_host(name="node2")
        assert await declare(world, old) == [], "an older epoch"
        silence(world, two, 0.0)
        assert await declare(world, two) == [], "its own lease is over"
        assert await declare(world, one) == [], "so is the other's"
        two = await world.running_host(name="node2")
        world.ask("UPDATE host_runtimes SET state = 'lost' WHERE host_id = %s", two.host_id)
        assert await declare(world, two) == [], "it is lost itself"
        assert state(world, one) == "running"

    @pytest_twisted.ensureDeferred
    async def test_nor_does_one_that_has_not_watched_for_as_long_as_the_lease_is(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        silence(world, one)
        assert await declare(world, two, steady=29.0) == []
        assert len(await declare(world, two)) == 1

    @pytest_twisted.ensureDeferred
    async def test_nor_by_the_clock_of_another_server_or_of_before(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        silence(world, one)
        clock = await world.hosts.read_clock()
        other = evolve(clock, server="another run")
        assert await world.hosts.declare_lost(two, MARGIN, other, STEADY) == []
        earlier = evolve(clock, now=clock.now - 60)
        assert await world.hosts.declare_lost(two, MARGIN, earlier, STEADY) == []
        assert len(await world.hosts.declare_lost(two, MARGIN, clock, STEADY)) == 1

    @pytest_twisted.ensureDeferred
    async def test_a_restart_of_the_server_is_another_one(self, world: World, postgres: RealPostgres) -> None:
        before = await world.hosts.read_clock()
        assert (await world.hosts.read_clock()).server == before.server
        world.close_admin()
        postgres.restart("immediate")
        for _ in range(100):
            try:
                after = await world.hosts.read_clock()
                break
            except Unavailable:
                await deferLater(reactor, 0.1)
        assert after.server != before.server


class TestVMs:
    @pytest_twisted.ensureDeferred
    async def test_what_ran_is_free(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        other = world.new_vm("other")
        world.ask("UPDATE host_runtimes SET blocked = true WHERE host_id = %s", one.host_id)
        await world.claimed(two, other)
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 1, 0)]
        row = world.row()
        assert (row["vm_state"], row["phase"], row["desired_state"]) == ("stopped", LOST_PHASE, "stopped")
        assert row["generation"] == row["acked_generation"]
        for column in ("host_id", "host_epoch", "vm_address", "vm_vma_port", "vm_x_port", "vm_secret"):
            assert row[column] is None, column
        assert row["last_error"] == RAN
        assert world.events("vm.stopped")[-1]["cause"] == "node1 is lost, noticed by node2"
        assert world.row(other)["host_id"] == two.host_id
        assert await world.vms.unplaced() == []
        await world.vms.order_start(world.vm_id, "alice")
        row = world.row()
        assert (row["host_id"], row["phase"], row["last_error"]) == (two.host_id, "stopped", None)
        assert await world.ownership.claim_start(two, world.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_its_failures_before_a_long_run_are_forgotten_and_none_is_added(self, world: World) -> None:
        one = await world.running_host()
        short = world.new_vm("short")
        for vm_id in (world.vm_id, short):
            await run(world, one, vm_id)
        world.ask("UPDATE vm_runtimes SET failures = 2")
        world.ask("UPDATE vm_runtimes SET since = now() - interval '1 hour' WHERE vm_id = %s", world.vm_id)
        two = await world.running_host(name="node2")
        silence(world, one)
        assert len(await declare(world, two)) == 1
        assert [world.row(vm_id)["failures"] for vm_id in (world.vm_id, short)] == [0, 2]

    @pytest_twisted.ensureDeferred
    async def test_its_late_writes_change_nothing(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        (vm,) = await world.ownership.bound(one)
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        for write in (
            world.ownership.save(one, world.vm_id, VMState.RUNNING, Change(VMState.STOPPING, "killing", "")),
            world.ownership.release(one, world.vm_id, None),
            world.ownership.adopt(one, vm),
        ):
            with pytest.raises(OwnershipLost):
                await write
        assert not await world.ownership.acknowledge(one, world.vm_id, vm.generation)
        assert await world.ownership.claim_start(one, world.vm_id, SECRET) is None
        assert (world.row()["vm_state"], world.row()["last_error"]) == ("stopped", RAN)

    @pytest_twisted.ensureDeferred
    async def test_an_order_not_taken_up_waits_for_another_node(self, world: World) -> None:
        one = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        row = world.row()
        assert (row["host_id"], row["desired_state"], row["phase"]) == (None, "running", LOST_PHASE)
        assert row["last_error"] == "The node node1, on which this desktop was to start, does not answer any more"
        assert await world.vms.unplaced() == [world.vm_id]
        placed = await gatherResults([later(world.vms.place_again(world.vm_id, "lost")) for _ in range(3)])
        assert sorted(placed) == [False, False, True]
        row = world.row()
        assert (row["host_id"], row["desired_state"], row["generation"]) == (two.host_id, "running", 2)
        assert await world.ownership.claim_start(two, world.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_so_does_a_start_ordered_while_it_went_down(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        await world.vms.order_stop(world.vm_id, "alice")
        await world.vms.order_start(world.vm_id, "alice again")
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        assert await world.vms.unplaced() == [world.vm_id]
        await world.vms.order_start(world.vm_id, "a client that waits")
        assert world.row()["host_id"] == two.host_id

    @pytest_twisted.ensureDeferred
    async def test_it_is_withdrawn_where_no_node_can_take_it(self, world: World) -> None:
        one = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        two = await world.running_host(GIB // 2, name="node2")
        silence(world, one)
        await declare(world, two)
        assert not await world.vms.place_again(world.vm_id, "lost")
        row = world.row()
        assert (row["host_id"], row["desired_state"], row["phase"]) == (None, "stopped", "stopped")
        assert row["generation"] == row["acked_generation"]
        assert row["last_error"] == (
            "No node can take this virtual machine: node1 is lost; node2 has 512 MiB free, 1024 MiB are needed"
        )
        assert await world.vms.unplaced() == []

    @pytest_twisted.ensureDeferred
    async def test_an_order_to_stop_ends_it_too(self, world: World) -> None:
        one = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        await world.vms.order_stop(world.vm_id, "alice")
        vm = await world.vms.get(world.vm_id)
        assert vm is not None
        assert (vm.desired, vm.generation, vm.acked) == (Desired.STOPPED, 2, 2)

    @pytest_twisted.ensureDeferred
    async def test_a_stop_not_taken_up_is_done(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        await world.vms.order_stop(world.vm_id, "alice")
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        vm = await world.vms.get(world.vm_id)
        assert vm is not None
        assert (vm.state, vm.desired, vm.generation) == (VMState.STOPPED, Desired.STOPPED, vm.acked)

    @pytest_twisted.ensureDeferred
    async def test_a_start_under_way_is_not_repeated_by_itself(self, world: World) -> None:
        one = await world.running_host()
        await world.claimed(one)
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        assert await world.vms.unplaced() == []
        assert (world.row()["desired_state"], world.row()["phase"]) == ("stopped", LOST_PHASE)

    @pytest_twisted.ensureDeferred
    async def test_every_tenants_and_nobody_elses(self, world: World) -> None:
        one = await world.running_host()
        tenant = world.insert("tenants (name) VALUES ('other')")
        user = world.insert("users (tenant_id, login) VALUES (%s, 'bob')", tenant)
        osf = world.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', %s)", tenant, GIB)
        di = world.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'x', '1')", tenant, osf)
        world.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", osf, di)
        theirs = VMId(
            world.insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'theirs')", tenant, user, osf)
        )
        idle = world.new_vm("idle")
        await run(world, one)
        await run(world, one, theirs)
        two = await world.running_host(name="node2")
        before = world.row(idle)
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 2, 0)]
        assert world.row(idle) == before
        events = [event for event in world.events("vm.stopped") if event["cause"].startswith("node1 is lost")]
        assert {(event["vm_id"], event["tenant_id"]) for event in events} == {
            (world.vm_id, world.tenant),
            (theirs, tenant),
        }

    @pytest_twisted.ensureDeferred
    async def test_who_waits_hears_it(self, world: World, database: str) -> None:
        one = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        two = await world.running_host(name="node2")
        silence(world, one)
        listener = psycopg2.connect(database)
        listener.autocommit = True
        try:
            with listener.cursor() as cursor:
                cursor.execute("LISTEN qvd_vm_changed")
                await declare(world, two)
                cursor.execute("SELECT 1")
            listener.poll()
            assert str(world.vm_id) in [bell.payload for bell in listener.notifies]
        finally:
            listener.close()


class TestSessions:
    @pytest_twisted.ensureDeferred
    async def test_those_it_served_have_ended(self, world: World) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        spec = world.session(one)
        await world.sessions.claim(spec)
        await world.sessions.connected(spec.session_id)
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 0, 1)]
        (ended,) = world.ask("SELECT state, end_reason FROM sessions WHERE id = %s", spec.session_id)
        assert ended["state"] == "disconnected"
        assert ended["end_reason"] == "The node node1, which served this session, does not answer any more"
        assert world.row()["session_id"] is None
        assert len(world.events("session.disconnected")) == 1
        assert await world.sessions.claim(world.session(two)) is None, "nobody has to be waited for"

    @pytest_twisted.ensureDeferred
    async def test_those_that_another_node_serves_go_on(self, world: World) -> None:
        """The one of a client that waits for the start."""
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        spec = world.session(two)
        await world.sessions.claim(spec)
        silence(world, one)
        assert await declare(world, two) == [LostNode("node1", 1, 0)]
        assert await world.sessions.is_current(spec.session_id)
        assert not await world.sessions.has_ended(spec.session_id)
        assert await world.sessions.unended(two.host_id) == {spec.session_id: None}
        with pytest.raises(SessionLost) as found:
            await world.sessions.connected(spec.session_id)
        assert found.value.text == GONE, "its relay would begin at a dead guest"

    @pytest_twisted.ensureDeferred
    async def test_those_that_are_connected_to_its_vms_through_another_node_are_told(
        self, world: World, database: str
    ) -> None:
        """Else the client waits for the time-out of TCP."""
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        spec = world.session(two)
        await world.sessions.claim(spec)
        await world.sessions.connected(spec.session_id)
        silence(world, one)
        listener = psycopg2.connect(database)
        listener.autocommit = True
        try:
            with listener.cursor() as cursor:
                cursor.execute(f"LISTEN {session_on_host(two.host_id)}")
                assert await declare(world, two) == [LostNode("node1", 1, 0)]
                cursor.execute("SELECT 1")
            assert len(listener.notifies) == 1
        finally:
            listener.close()
        assert await world.sessions.unended(two.host_id) == {spec.session_id: RAN}
        # Its node ends it; whoever comes meanwhile has nobody to wait for.
        assert await world.sessions.claim(world.session(two)) is None
        assert (await world.sessions.unended(two.host_id))[spec.session_id] == TAKEN
        await world.sessions.end(spec.session_id, RAN)
        assert world.row()["session_id"] is not None


class TestRaces:
    @pytest_twisted.ensureDeferred
    async def test_one_of_several_does_it(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        world.new_host("node3")
        three = await world.running_host(name="node3")
        silence(world, one)
        found = await gatherResults([later(declare(world, lease)) for lease in (two, three, two, three)])
        assert sorted(found) == [[], [], [], [LostNode("node1", 1, 0)]]
        assert len(world.events("host.lost")) == 1
        assert len([event for event in world.events("vm.stopped") if "is lost" in event["cause"]]) == 1

    @pytest_twisted.ensureDeferred
    async def test_two_that_wait_for_the_same_locks(self, world: World, database: str) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        silence(world, one)
        with psycopg2.connect(database) as holder:
            with holder.cursor() as cursor:
                cursor.execute("SELECT FROM vm_runtimes WHERE vm_id = %s FOR UPDATE", (world.vm_id,))
            both = gatherResults([later(declare(world, two)) for _ in range(2)])
            await waiting_for_locks(world, 2)
        holder.close()
        assert sorted(await both) == [[], [LostNode("node1", 1, 0)]]

    @pytest_twisted.ensureDeferred
    async def test_a_node_that_registers_first_is_left_alone(self, world: World, database: str) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        silence(world, one)
        holder = psycopg2.connect(database)
        with holder.cursor() as cursor:
            # As if its registration were just being committed.
            cursor.execute(
                "UPDATE host_runtimes SET epoch = epoch + 1, state = 'starting', ok_ts = now(),"
                " lease_until = now() + interval '30 seconds' WHERE host_id = %s",
                (one.host_id,),
            )
        declaring = later(declare(world, two))
        await waiting_for_locks(world, 1)
        holder.commit()
        holder.close()
        assert await declaring == []
        assert world.row()["vm_state"] == "running"

    @pytest_twisted.ensureDeferred
    async def test_a_renewal_that_comes_too_late_finds_it_lost(self, world: World, database: str) -> None:
        one, two = await world.running_host(), await world.running_host(name="node2")
        holder = psycopg2.connect(database)
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM host_runtimes WHERE host_id = %s FOR UPDATE", (one.host_id,))
            renewing = later(world.hosts.renew(one, 30.0, Capacity(GIB, 1.0, GIB, 1.0)))
            # Its lease was live when it was sent.
            await waiting_for_locks(world, 1)
            cursor.execute("UPDATE host_runtimes SET state = 'lost' WHERE host_id = %s", (one.host_id,))
        holder.commit()
        holder.close()
        with pytest.raises(OwnershipLost):
            await renewing
        assert await declare(world, two) == []

    @pytest_twisted.ensureDeferred
    async def test_renewals_and_looks_at_the_moment_of_the_end(self, world: World) -> None:
        """Whoever wins: it is never both renewed and lost."""
        two = await world.running_host(name="node2")
        for _ in range(10):
            one = await world.running_host()
            silence(world, one, 5.0)
            world.ask(
                "UPDATE host_runtimes SET lease_until = now() - interval '4.99 seconds' WHERE host_id = %s",
                one.host_id,
            )
            clock = evolve(await world.hosts.read_clock(), now=(await world.hosts.read_clock()).now + 0.02)
            registering = later(world.hosts.register("node1", "127.0.0.1", 30.0))
            lost, new = await gatherResults([later(world.hosts.declare_lost(two, MARGIN, clock, STEADY)), registering])
            assert state(world, one) == "starting"
            assert (await world.hosts.renew(new, 30.0, Capacity(GIB, 1.0, GIB, 1.0))) is not None, lost
            with pytest.raises(OwnershipLost):
                await world.hosts.renew(one, 30.0, Capacity(GIB, 1.0, GIB, 1.0))

    @pytest_twisted.ensureDeferred
    async def test_orders_at_the_same_moment(self, world: World) -> None:
        """Orders lock a VM and then the nodes, and so does the loss: nobody waits for each other in a circle."""
        one = await world.running_host(16 * GIB)
        vms = [world.vm_id, *(world.new_vm(f"vm {number}") for number in range(7))]
        for vm_id in vms[:4]:
            await run(world, one, vm_id)
        for vm_id in vms:
            await world.sessions.claim(world.session(one, vm_id))
        two = await world.running_host(16 * GIB, name="node2")
        silence(world, one)
        work = [later(world.vms.order_start(vm_id, "alice")) for vm_id in vms]
        work[4:4] = [later(declare(world, two)), later(declare(world, two))]
        await gatherResults(work)
        assert world.ask("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [
            {"deadlocks": 0}
        ]
        for vm_id in vms:
            await world.vms.order_start(vm_id, "alice again")
            assert world.row(vm_id)["host_id"] == two.host_id

    @pytest_twisted.ensureDeferred
    async def test_an_order_that_waited_for_the_loss_finds_another_node(self, world: World, database: str) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        silence(world, one)
        holder = psycopg2.connect(database)
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM host_runtimes WHERE host_id = %s FOR UPDATE", (one.host_id,))
        declaring = later(declare(world, two))
        await waiting_for_locks(world, 1)
        ordering = later(world.vms.order_start(world.vm_id, "alice"))
        await waiting_for_locks(world, 2)
        holder.rollback()
        holder.close()
        assert len(await declaring) == 1
        await ordering
        assert world.row()["host_id"] == two.host_id


class TestReturn:
    @pytest_twisted.ensureDeferred
    async def test_it_has_a_new_epoch_and_runs_nothing_of_what_it_lost(self, world: World) -> None:
        one = await world.running_host()
        await run(world, one)
        two = await world.running_host(name="node2")
        silence(world, one)
        await declare(world, two)
        with pytest.raises(OwnershipLost):
            await world.hosts.renew(one, 30.0, Capacity(GIB, 1.0, GIB, 1.0))
        await world.vms.order_start(world.vm_id, "alice")
        new = await world.hosts.register("node1", "127.0.0.1", 30.0)
        assert new.epoch == one.epoch + 1
        assert await world.ownership.bound(new) == []
        assert judge(None, Domain(world.vm_id, True, GUEST)).step is Step.KILL_LOST
        assert await world.ownership.pending(new, ()) == []
        assert await declare(world, two) == []
        assert state(world, new) == "starting"


async def waiting_for_locks(world: World, count: int) -> None:
    """Return when so many transactions of the stores wait for somebody."""
    for _ in range(200):
        (found,) = world.ask(
            "SELECT count(*) AS waiting FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = 'qvd_node' AND wait_event_type = 'Lock'"
        )
        if found["waiting"] >= count:
            return
        await deferLater(reactor, 0.02)
    raise AssertionError(f"no {count} transactions wait")
