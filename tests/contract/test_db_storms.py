"""Queues and crash loops in the rows, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg2
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from qvd.model.crashloop import Ending, back_off
from qvd.model.errors import NotFound, OwnershipLost, Unavailable
from qvd.model.explanation import explain
from qvd.model.ids import VMId
from qvd.model.records import Change, Lease
from qvd.model.vm import Step, VMState
from tests.contract.stores import SECRET, World
from tests.contract.test_db_cluster import waiting_for_locks


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


async def run(world: World, lease: Lease, ending: Ending, error: str = "It does not boot") -> None:
    """One start, and what came of it."""
    await world.claimed(lease)
    await world.ownership.release(lease, world.vm_id, error, ending)


async def crash(world: World, lease: Lease, times: int) -> None:
    """So often, with what the administrator's patience does in between."""
    for _ in range(times):
        world.ask("UPDATE vm_runtimes SET retry_at = NULL")
        await run(world, lease, Ending.FAILED)


class TestQueue:
    @pytest_twisted.ensureDeferred
    async def test_orders_come_in_the_order_in_which_they_were_given(self, world: World) -> None:
        lease = await world.running_host()
        vms = [world.new_vm("two"), world.vm_id, world.new_vm("three")]
        for vm_id in vms:
            await world.vms.order_start(vm_id, "alice")
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == vms
        await world.vms.order_stop(vms[2], "alice")
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [vms[2], *vms[:2]], "stops first"

    @pytest_twisted.ensureDeferred
    async def test_guests_that_have_answered_are_locked_in_order(self, world: World, database: str) -> None:
        """As by all that lock several VMs, such as the places in a queue: else each could wait for the other."""
        lease = await world.running_host()
        first, second = world.vm_id, world.new_vm("two")
        for vm_id in (second, first):  # the order in which their rows lie there now
            await world.claimed(lease, vm_id)
        holder = psycopg2.connect(database)
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM vm_runtimes WHERE vm_id = %s FOR UPDATE", (first,))
            writing = Deferred.fromCoroutine(world.ownership.seen(lease, [first, second]))
            await waiting_for_locks(world, 1)
            cursor.execute("SELECT FROM vm_runtimes WHERE vm_id = %s FOR UPDATE NOWAIT", (second,))
        holder.rollback()
        holder.close()
        await writing
        assert None not in (world.row(first)["vma_ok_ts"], world.row(second)["vma_ok_ts"])

    @pytest_twisted.ensureDeferred
    async def test_the_places_of_all_are_one_statement(self, world: World) -> None:
        lease = await world.running_host()
        vms = [world.vm_id, *(world.new_vm(f"vm {number}") for number in range(3))]
        for vm_id in vms:
            await world.claimed(lease, vm_id)
        waiting = Change(VMState.STARTING, Step.QUEUED.value, "Waiting")
        for vm_id in vms[:3]:
            await world.ownership.save(lease, vm_id, VMState.STARTING, waiting)
        texts = [(vm_id, Step.QUEUED.value, f"Position {place}, 100 %") for place, vm_id in enumerate(vms)]
        assert await world.ownership.show(lease, texts) == set(vms[:3]), "the last one's phase is over"
        assert [world.row(vm_id)["detail"] for vm_id in vms] == [
            "Position 0, 100 %",
            "Position 1, 100 %",
            "Position 2, 100 %",
            "Preparing to start",
        ]
        assert await world.ownership.show(lease, []) == set()

    @pytest_twisted.ensureDeferred
    async def test_those_of_another_epoch_change_nothing(self, world: World) -> None:
        old = await world.running_host()
        await world.claimed(old)
        new = await world.running_host()
        text = [(world.vm_id, "preparing", "Position 1")]
        assert await world.ownership.show(new, text) == set()
        assert world.row()["detail"] == "Preparing to start"

    @pytest_twisted.ensureDeferred
    async def test_one_that_waited_when_its_daemon_ended_is_claimed_again(self, world: World) -> None:
        old = await world.running_host()
        await world.claimed(old)
        new = await world.running_host()
        (vm,) = await world.ownership.bound(new)
        await world.ownership.adopt(new, vm, again=True)
        await world.ownership.release(new, world.vm_id, None)
        row = world.row()
        assert (row["vm_state"], row["desired_state"], row["host_id"]) == ("stopped", "running", new.host_id)
        assert [vm.vm_id for vm in await world.ownership.pending(new, ())] == [world.vm_id]
        assert await world.ownership.claim_start(new, world.vm_id, SECRET) is not None
        assert world.row()["acked_generation"] == world.row()["generation"] == 1

    @pytest_twisted.ensureDeferred
    async def test_a_stop_that_came_meanwhile_ends_it(self, world: World) -> None:
        old = await world.running_host()
        await world.claimed(old)
        await world.vms.order_stop(world.vm_id, "alice")
        new = await world.running_host()
        (vm,) = await world.ownership.bound(new)
        await world.ownership.adopt(new, vm, again=True)
        await world.ownership.release(new, world.vm_id, None)
        assert (world.row()["desired_state"], world.row()["host_id"]) == ("stopped", None)


class TestCrashLoop:
    @pytest_twisted.ensureDeferred
    async def test_the_third_failure_in_a_row_makes_it_wait(self, world: World) -> None:
        lease = await world.running_host()
        for failures in (1, 2):
            await run(world, lease, Ending.FAILED)
            assert (world.row()["failures"], world.row()["retry_at"]) == (failures, None)
        await run(world, lease, Ending.FAILED)
        with pytest.raises(Unavailable, match=r"failed 3 times in a row.*again in 10 s.*It does not boot") as caught:
            await world.vms.order_start(world.vm_id, "alice")
        assert caught.value.retry_after == 10
        row = world.row()
        assert (row["host_id"], row["desired_state"]) == (None, "stopped"), "nothing was ordered"

    @pytest_twisted.ensureDeferred
    async def test_each_further_one_makes_it_wait_longer(self, world: World) -> None:
        lease = await world.running_host()
        for failures in range(1, 11):
            await crash(world, lease, 1)
            (told,) = world.ask("SELECT failures, extract(epoch FROM retry_at - now()) AS pause FROM vm_runtimes")
            assert told["failures"] == failures
            assert abs(float(told["pause"] or 0) - back_off(failures)) < 5

    @pytest_twisted.ensureDeferred
    async def test_when_the_time_is_over_it_is_started(self, world: World) -> None:
        lease = await world.running_host()
        await crash(world, lease, 4)
        world.ask("UPDATE vm_runtimes SET retry_at = now() - interval '1 second'")
        await world.claimed(lease)
        assert world.row()["failures"] == 4, "it has not done better yet"

    @pytest_twisted.ensureDeferred
    async def test_a_good_run_clears_it_and_the_nodes_failures_do_not_count(self, world: World) -> None:
        lease = await world.running_host()
        await run(world, lease, Ending.FAILED)
        await run(world, lease, Ending.NEUTRAL)
        assert world.row()["failures"] == 1
        await run(world, lease, Ending.SETTLED)
        assert (world.row()["failures"], world.row()["retry_at"]) == (0, None)

    @pytest_twisted.ensureDeferred
    async def test_an_order_given_before_the_last_failure_waits_with_its_node(self, world: World) -> None:
        lease = await world.running_host()
        await crash(world, lease, 2)
        await world.claimed(lease)
        dying = Change(VMState.ZOMBIE, "killing", "Killing", error="It does not boot")
        await world.ownership.save(lease, world.vm_id, VMState.STARTING, dying)
        await world.vms.order_start(world.vm_id, "alice")
        await world.ownership.release(lease, world.vm_id, "It does not boot", Ending.FAILED)
        assert world.row()["host_id"] == lease.host_id
        assert await world.ownership.pending(lease, ()) == []
        assert await world.ownership.claim_start(lease, world.vm_id, SECRET) is None
        world.ask("UPDATE vm_runtimes SET retry_at = now() - interval '1 second'")
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [world.vm_id]
        assert await world.ownership.claim_start(lease, world.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_but_its_end_may_be_ordered_at_any_time(self, world: World) -> None:
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        world.ask("UPDATE vm_runtimes SET failures = 3, retry_at = now() + interval '1 hour'")
        await world.vms.order_stop(world.vm_id, "alice")
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [world.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_an_order_that_lost_its_node_is_withdrawn(self, world: World) -> None:
        await world.running_host()
        world.ask(
            "UPDATE vm_runtimes SET desired_state = 'running', generation = 1, failures = 3, last_error = 'It crashed',"
            " retry_at = now() + interval '1 hour'"
        )
        assert await world.vms.unplaced() == [world.vm_id]
        assert not await world.vms.place_again(world.vm_id, "its node is lost")
        assert await world.vms.unplaced() == []
        assert (world.row()["host_id"], world.row()["last_error"]) == (None, "It crashed")

    @pytest_twisted.ensureDeferred
    async def test_a_reset_lets_it_start_and_is_in_the_history(self, world: World) -> None:
        lease = await world.running_host()
        await crash(world, lease, 4)
        known = await world.vms.explain(world.vm_id)
        assert known is not None
        assert any("has failed 4 times in a row: may be started in 20 s" in line for line in explain(known))
        await world.vms.reset_failures(world.vm_id, "qvd-node reset")
        await world.vms.reset_failures(world.vm_id, "again")
        await world.claimed(lease)
        (event,) = world.events("vm.reset")
        assert (event["cause"], event["before"], event["after"]) == ("qvd-node reset", {"failures": 4}, {"failures": 0})
        with pytest.raises(NotFound):
            await world.vms.reset_failures(VMId(4711), "test")

    @pytest_twisted.ensureDeferred
    async def test_the_loss_of_a_write_counts_once(self, world: World) -> None:
        """The answer to a release is lost, and it is repeated: the row is nobody's then."""
        lease = await world.running_host()
        await run(world, lease, Ending.FAILED)
        with pytest.raises(OwnershipLost, match="not this node's any more"):
            await world.ownership.release(lease, world.vm_id, "again", Ending.FAILED)
        assert world.row()["failures"] == 1

    @pytest_twisted.ensureDeferred
    async def test_the_api_may_reset(self, world: World, database: str) -> None:
        dsn = psycopg2.extensions.make_dsn(database, user="qvd_api")
        connection = psycopg2.connect(dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("UPDATE vm_runtimes SET failures = 0, retry_at = NULL")
                assert cursor.rowcount == 1
        finally:
            connection.close()
