"""What administrators do to nodes, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from qvd.db.nodes import Nodes
from qvd.db.pool import Pool
from qvd.model.errors import Conflict, Forbidden, NotFound, OwnershipLost, Unavailable
from qvd.model.host import LOST_PHASE
from qvd.model.ids import HostId, VMId
from qvd.model.records import Capacity, Change, Drain, Guest, HostState, HostStatus, Lease
from qvd.model.vm import VMState
from qvd.protocols.channels import host_changed, vm_on_host
from tests.contract.stores import GIB, SECRET, World

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)
CAPACITY = Capacity(8 * GIB, 2.0, 7 * GIB, 1.5)
BY = "carol, test"


class Farm(World):
    """With two nodes, and the store of their administrators."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.new_host("node2")
        self.nodes = Nodes(self.pool)

    async def run(self, lease: Lease, vm_id: VMId | None = None) -> None:
        """Have the VM run on the node, which must be the only one that takes VMs."""
        await self.claimed(lease, vm_id)
        change = Change(VMState.RUNNING, "running", "Running", GUEST)
        await self.ownership.save(lease, vm_id or self.vm_id, VMState.STARTING, change)

    async def stop_vm(self, lease: Lease, vm_id: VMId | None = None) -> None:
        """Its node carries the order to stop out."""
        vm = await self.vms.get(vm_id or self.vm_id)
        assert vm is not None
        await self.ownership.acknowledge(lease, vm.vm_id, vm.generation)
        await self.ownership.release(lease, vm.vm_id, None)

    def host_row(self, host: int) -> dict[str, Any]:
        return self.ask("SELECT * FROM host_runtimes WHERE host_id = %s", host)[0]


@pytest_twisted.async_yield_fixture
async def farm(database: str) -> AsyncIterator[Farm]:
    made = Farm(database)
    await made.pool.start()
    yield made
    await made.close()


def later(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def refused(failure: Failure) -> None:
    """A start that no node took."""
    assert isinstance(failure.value, Unavailable)


class TestSummaries:
    @pytest_twisted.ensureDeferred
    async def test_of_each_node(self, farm: Farm) -> None:
        one = await farm.running_host()
        await farm.run(one)
        spec = farm.session(one)
        await farm.sessions.claim(spec)
        first, second = await farm.nodes.summaries()
        assert (first.name, first.state, first.vms, first.sessions) == ("node1", HostState.RUNNING, 1, 1)
        assert (first.usable, first.free, first.available) == (8 * GIB, 7 * GIB, 8 * GIB)
        assert (first.cores, first.idle) == (2.0, 1.5)
        assert first.lease_seconds is not None and 0 < first.lease_seconds <= 30
        assert (second.name, second.state, second.vms, second.lease_seconds) == ("node2", HostState.STOPPED, 0, None)
        await farm.sessions.end(spec.session_id, "gone")
        assert (await farm.nodes.summaries())[0].sessions == 0


class TestFlags:
    @pytest_twisted.ensureDeferred
    async def test_a_blocked_node_gets_nothing_new(self, farm: Farm) -> None:
        one = await farm.running_host()
        assert await farm.nodes.block("node1", BY)
        assert not await farm.nodes.block("node1", BY), "it is already"
        with pytest.raises(Unavailable, match="node1 is blocked for maintenance"):
            await farm.vms.order_start(farm.vm_id, "alice")
        assert await farm.hosts.renew(one, 30.0, CAPACITY) == HostStatus(HostState.RUNNING, True, None)
        assert await farm.nodes.unblock("node1", BY)
        assert not await farm.nodes.unblock("node1", BY)
        await farm.vms.order_start(farm.vm_id, "alice")

    @pytest_twisted.ensureDeferred
    async def test_each_change_is_one_event_and_one_bell(self, farm: Farm, database: str) -> None:
        await farm.running_host()
        farm.ask("TRUNCATE events")
        listener = psycopg2.connect(database)
        listener.autocommit = True
        try:
            with listener.cursor() as cursor:
                cursor.execute(f"LISTEN {host_changed(HostId(farm.host))}")
                for change in (
                    farm.nodes.block("node1", BY),
                    farm.nodes.drain("node1", Drain.WAIT, BY),
                    farm.nodes.drain("node1", Drain.WAIT, BY),
                    farm.nodes.drain("node1", Drain.STOP, BY),
                    farm.nodes.undrain("node1", BY),
                    farm.nodes.unblock("node1", BY),
                ):
                    await change
                cursor.execute("SELECT 1")
            assert len(listener.notifies) == 5
        finally:
            listener.close()
        events = farm.ask("SELECT * FROM events ORDER BY id")
        assert [event["kind"] for event in events] == [
            "host.blocked",
            "host.drained",
            "host.drained",
            "host.undrained",
            "host.unblocked",
        ]
        assert {(event["host_id"], event["cause"]) for event in events} == {(farm.host, BY)}
        assert events[0]["before"] == {"state": "running", "blocked": False, "drain": None, "decommissioned": False}
        assert events[0]["after"] == {"state": "running", "blocked": True, "drain": None, "decommissioned": False}
        assert [event["after"]["drain"] for event in events] == [None, "wait", "stop", None, None]

    @pytest_twisted.ensureDeferred
    async def test_its_life_is_in_the_history_and_its_signs_of_life_are_not(self, farm: Farm) -> None:
        one = await farm.running_host()
        for _ in range(3):
            await farm.hosts.renew(one, 30.0, CAPACITY)
        await farm.hosts.set_state(one, HostState.STOPPING)
        await farm.hosts.set_state(one, HostState.STOPPED)
        events = farm.ask("SELECT kind FROM events WHERE host_id = %s ORDER BY id", farm.host)
        assert [event["kind"] for event in events] == ["host.starting", "host.running", "host.stopping", "host.stopped"]

    @pytest_twisted.ensureDeferred
    async def test_no_such_node(self, farm: Farm) -> None:
        for command in (
            farm.nodes.block("nowhere", BY),
            farm.nodes.unblock("nowhere", BY),
            farm.nodes.drain("nowhere", Drain.STOP, BY),
            farm.nodes.undrain("nowhere", BY),
            farm.nodes.decommission("nowhere", BY),
        ):
            with pytest.raises(NotFound, match="No node is called 'nowhere'"):
                await command


class TestDrain:
    @pytest_twisted.ensureDeferred
    async def test_it_gets_no_new_vms(self, farm: Farm) -> None:
        one = await farm.running_host()
        assert await farm.nodes.drain("node1", Drain.WAIT, BY) == 0
        with pytest.raises(Unavailable, match="node1 is being drained"):
            await farm.vms.order_start(farm.vm_id, "alice")
        assert (await farm.hosts.renew(one, 30.0, CAPACITY)).drain is Drain.WAIT
        await farm.nodes.undrain("node1", BY)
        assert (await farm.hosts.renew(one, 30.0, CAPACITY)).drain is None
        await farm.vms.order_start(farm.vm_id, "alice")

    @pytest_twisted.ensureDeferred
    async def test_waiting_leaves_what_runs(self, farm: Farm) -> None:
        one = await farm.running_host()
        await farm.run(one)
        before = farm.row()
        assert await farm.nodes.drain("node1", Drain.WAIT, BY) == 0
        assert await farm.hosts.drain(one) == 0
        assert farm.row() == before

    @pytest_twisted.ensureDeferred
    async def test_stopping_orders_the_stop_of_all_that_runs(self, farm: Farm, database: str) -> None:
        one = await farm.running_host()
        starts = farm.new_vm("starts")
        await farm.run(one)
        await farm.claimed(one, starts)
        listener = psycopg2.connect(database)
        listener.autocommit = True
        try:
            with listener.cursor() as cursor:
                cursor.execute(f"LISTEN {vm_on_host(one.host_id)}")
                assert await farm.nodes.drain("node1", Drain.STOP, BY) == 2
                cursor.execute("SELECT 1")
            assert listener.notifies, "the node hears of it"
        finally:
            listener.close()
        for vm_id in (farm.vm_id, starts):
            row = farm.row(vm_id)
            assert (row["desired_state"], row["generation"], row["acked_generation"]) == ("stopped", 2, 1)
        causes = {event["cause"] for event in farm.events("vm.ordered")[-2:]}
        assert causes == {"the node node1 is being drained"}
        assert await farm.hosts.drain(one) == 0, "once is enough"
        await farm.stop_vm(one)
        assert (await farm.nodes.summaries())[0].vms == 1

    @pytest_twisted.ensureDeferred
    async def test_whoever_waits_for_a_start_is_told_why_it_is_stopped(self, farm: Farm) -> None:
        """Perhaps it was still in the node's queue, and might have gone elsewhere."""
        one = await farm.running_host()
        runs = farm.new_vm("runs")
        await farm.run(one, runs)
        await farm.claimed(one)
        await farm.nodes.drain("node1", Drain.STOP, BY)
        for vm_id in (farm.vm_id, runs):
            await farm.ownership.release(one, vm_id, None)
        told = "The node node1, on which this desktop was starting, is being drained"
        assert (farm.row()["last_error"], farm.row(runs)["last_error"]) == (told, None)

    @pytest_twisted.ensureDeferred
    async def test_one_that_is_wanted_again_is_stopped_again(self, farm: Farm) -> None:
        one = await farm.running_host()
        await farm.run(one)
        await farm.nodes.drain("node1", Drain.STOP, BY)
        await farm.vms.order_start(farm.vm_id, "alice")
        assert farm.row()["desired_state"] == "running"
        assert await farm.hosts.drain(one) == 1
        assert farm.row()["desired_state"] == "stopped"

    @pytest_twisted.ensureDeferred
    async def test_an_order_not_taken_up_goes_elsewhere(self, farm: Farm) -> None:
        await farm.running_host()
        await farm.vms.order_start(farm.vm_id, "alice")
        two = await farm.running_host(name="node2")
        assert await farm.nodes.drain("node1", Drain.WAIT, BY) == 1
        row = farm.row()
        assert (row["host_id"], row["desired_state"], row["phase"]) == (None, "running", LOST_PHASE)
        assert row["last_error"] == "The node node1, on which this desktop was to start, is being drained"
        assert await farm.vms.unplaced() == [farm.vm_id]
        assert await farm.vms.place_again(farm.vm_id, "drained")
        assert farm.row()["host_id"] == two.host_id
        assert await farm.ownership.claim_start(two, farm.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_also_one_that_came_with_the_flag(self, farm: Farm) -> None:
        """A VM that goes down keeps its node when it is wanted again; the node does not take that up any more."""
        one = await farm.running_host()
        other = farm.new_vm("other")
        await farm.run(one)
        await farm.claimed(one, other)
        await farm.nodes.drain("node1", Drain.STOP, BY)
        vm = await farm.vms.get(farm.vm_id)
        assert vm is not None
        await farm.ownership.acknowledge(one, vm.vm_id, vm.generation)
        await farm.vms.order_start(farm.vm_id, "alice")
        await farm.ownership.release(one, farm.vm_id, None)
        assert farm.row()["host_id"] == one.host_id
        assert await farm.ownership.claim_start(one, farm.vm_id, SECRET) is None
        assert (farm.row()["host_id"], farm.row()["vm_state"]) == (None, "stopped")
        assert farm.row(other)["host_id"] == one.host_id, "nothing else is touched"
        assert await farm.vms.unplaced() == [farm.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_a_node_that_is_not_drained_is_left_alone(self, farm: Farm) -> None:
        one = await farm.running_host()
        await farm.run(one)
        waits = farm.new_vm("waits")
        await farm.vms.order_start(waits, "alice")
        assert await farm.hosts.drain(one) == 0
        assert (farm.row()["desired_state"], farm.row(waits)["host_id"]) == ("running", one.host_id)

    @pytest_twisted.ensureDeferred
    async def test_starts_at_the_same_moment(self, farm: Farm) -> None:
        """Whoever comes first: nothing is left on the node but what was taken up before."""
        one = await farm.running_host()
        vms = [farm.new_vm(f"vm{number}") for number in range(6)]
        starts = [later(farm.vms.order_start(vm_id, "alice")) for vm_id in vms]
        for start in starts:
            start.addErrback(refused)
        await gatherResults([*starts, later(farm.nodes.drain("node1", Drain.STOP, BY))])
        await farm.hosts.drain(one)
        assert farm.ask("SELECT 1 FROM vm_runtimes WHERE host_id IS NOT NULL") == []


class TestDecommission:
    async def drained(self, farm: Farm) -> Lease:
        lease = await farm.running_host()
        await farm.nodes.drain("node1", Drain.WAIT, BY)
        return lease

    @pytest_twisted.ensureDeferred
    async def test_what_is_in_its_way(self, farm: Farm) -> None:
        one = await farm.running_host()
        await farm.run(one)
        spec = farm.session(one)
        await farm.sessions.claim(spec)
        with pytest.raises(Conflict, match="takes new VMs: drain it first"):
            await farm.nodes.decommission("node1", BY)
        await farm.nodes.drain("node1", Drain.WAIT, BY)
        with pytest.raises(Conflict, match="is running: stop its daemon first"):
            await farm.nodes.decommission("node1", BY)
        await farm.hosts.set_state(one, HostState.STOPPED)
        with pytest.raises(Conflict, match="has 1 VMs and 1 sessions left"):
            await farm.nodes.decommission("node1", BY)
        await farm.ownership.release(one, farm.vm_id, None)
        with pytest.raises(Conflict, match="has 0 VMs and 1 sessions left"):
            await farm.nodes.decommission("node1", BY)
        await farm.sessions.end(spec.session_id, "gone")
        await farm.nodes.decommission("node1", BY)
        (event,) = farm.events("host.decommissioned")
        assert (event["host_id"], event["cause"], event["after"]["decommissioned"]) == (farm.host, BY, True)
        assert farm.ask("SELECT host_id FROM sessions") == [{"host_id": farm.host}], "the history stays"

    @pytest_twisted.ensureDeferred
    async def test_it_is_no_node_any_more(self, farm: Farm) -> None:
        one = await self.drained(farm)
        await farm.hosts.set_state(one, HostState.STOPPED)
        await farm.nodes.decommission("node1", BY)
        with pytest.raises(Forbidden, match=r"The node 'node1' was decommissioned at \d{4}-.* qvd-node enrol"):
            await farm.hosts.register("node1", "127.0.0.1", 30.0)
        with pytest.raises(NotFound):
            await farm.nodes.undrain("node1", BY)
        assert [node.name for node in await farm.nodes.summaries()] == ["node2"]
        assert [node.name for node in await farm.nodes.summaries(decommissioned=True)] == ["node1", "node2"]
        with pytest.raises(Unavailable) as refused:
            await farm.vms.order_start(farm.vm_id, "alice")
        assert "node1" not in refused.value.text

    @pytest_twisted.ensureDeferred
    async def test_a_lost_one(self, farm: Farm) -> None:
        one = await self.drained(farm)
        farm.ask("UPDATE host_runtimes SET state = 'lost' WHERE host_id = %s", one.host_id)
        await farm.nodes.decommission("node1", BY)
        with pytest.raises(OwnershipLost):
            await farm.hosts.renew(one, 30.0, CAPACITY)

    @pytest_twisted.ensureDeferred
    async def test_a_daemon_that_starts_at_the_same_moment(self, farm: Farm) -> None:
        """One of the two is too late."""
        one = await self.drained(farm)
        await farm.hosts.set_state(one, HostState.STOPPED)
        outcomes: list[str] = []
        begins = later(farm.hosts.register("node1", "127.0.0.1", 30.0))
        begins.addCallbacks(lambda _: outcomes.append("registered"), lambda failure: failure.trap(Forbidden))
        ends = later(farm.nodes.decommission("node1", BY))
        ends.addCallbacks(lambda _: outcomes.append("decommissioned"), lambda failure: failure.trap(Conflict))
        await gatherResults([begins, ends])
        assert len(outcomes) == 1


@pytest_twisted.ensureDeferred
async def test_the_role_of_the_api_may_do_it_too(farm: Farm, database: str) -> None:
    from random import Random

    from twisted.internet import reactor

    one = await farm.running_host()
    await farm.run(one)
    dsn = psycopg2.extensions.make_dsn(database, user="qvd_api")
    pool = Pool(reactor, dsn, size=1, deadline=10.0, rng=Random(1))
    await pool.start()
    try:
        nodes = Nodes(pool)
        await nodes.block("node1", BY)
        assert await nodes.drain("node1", Drain.STOP, BY) == 1
        await farm.stop_vm(one)
        await farm.hosts.set_state(one, HostState.STOPPED)
        await nodes.decommission("node1", BY)
    finally:
        await pool.stop()
