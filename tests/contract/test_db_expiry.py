"""The dates of running VMs on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator

import psycopg2
import psycopg2.extensions
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from qvd.db.expiry import Expiry
from qvd.model.expiry import Notice
from qvd.model.ids import Epoch, HostId, VMId
from qvd.model.records import Change, Guest, Lease
from qvd.model.vm import VMState
from qvd.protocols.channels import expiry_on_host
from tests.contract.stores import SECRET, World
from tests.contract.test_db_cluster import waiting_for_locks

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)


class RunningWorld(World):
    """One whose VM runs."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.dsn = dsn
        self.expiry = Expiry(self.pool)
        self.lease = Lease(HostId(0), Epoch(0))

    async def run(self) -> None:
        self.lease = await self.running_host()
        await self.bring_up(self.vm_id)

    async def bring_up(self, vm_id: VMId) -> None:
        await self.claimed(self.lease, vm_id)
        running = Change(VMState.RUNNING, "running", "Running", GUEST)
        await self.ownership.save(self.lease, vm_id, VMState.STARTING, running)

    def date(self, kind: str, seconds: float | None) -> None:
        self.ask(f"UPDATE vm_runtimes SET vm_expiration_{kind} = now() + %s * interval '1 second'", seconds)


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[RunningWorld]:
    made = RunningWorld(database)
    await made.pool.start()
    await made.run()
    yield made
    await made.close()


class TestExpiring:
    @pytest_twisted.ensureDeferred
    async def test_a_vm_without_a_date_is_none(self, world: RunningWorld) -> None:
        assert await world.expiry.expiring(world.lease) == []

    @pytest_twisted.ensureDeferred
    async def test_what_is_read(self, world: RunningWorld) -> None:
        world.ask("UPDATE vm_runtimes SET vm_expiration_soft = '2020-02-03 04:05:06+01'")
        world.date("hard", 60)
        (vm,) = await world.expiry.expiring(world.lease)
        assert (vm.vm_id, vm.guest, vm.taken, vm.connected) == (world.vm_id, GUEST, False, False)
        assert vm.soft is not None and vm.hard is not None
        assert vm.parameters == {"vm.expiration.soft": "2020-02-03 03:05:06", "vm.expiration.hard": vm.hard.text}
        assert vm.soft.seconds < -86400 and 50 < vm.hard.seconds <= 60
        assert (vm.soft.told, vm.hard.told) == (False, False)

    @pytest_twisted.ensureDeferred
    async def test_a_session_is_connected_once_its_desktop_is_shown(self, world: RunningWorld) -> None:
        world.date("soft", 60)
        session = world.session(world.lease)
        found = []
        for step in (world.sessions.claim(session), world.sessions.connected(session.session_id)):
            await step
            (vm,) = await world.expiry.expiring(world.lease)
            found.append((vm.taken, vm.connected))
        assert found == [(True, False), (True, True)]

    @pytest_twisted.ensureDeferred
    async def test_only_running_vms_of_this_epoch_that_are_to_go_on(self, world: RunningWorld) -> None:
        world.date("soft", 60)
        assert await world.expiry.expiring(Lease(world.lease.host_id, Epoch(world.lease.epoch + 1))) == []
        await world.vms.order_stop(world.vm_id, "alice")
        assert await world.expiry.expiring(world.lease) == []


class TestTold:
    @pytest_twisted.ensureDeferred
    async def test_it_is_kept_until_the_date_changes(self, world: RunningWorld) -> None:
        world.date("soft", -1)
        world.date("hard", 60)
        (vm,) = await world.expiry.expiring(world.lease)
        assert vm.soft is not None and vm.hard is not None
        await world.expiry.told(world.lease, world.vm_id, Notice.SOFT, vm.soft.text)
        await world.expiry.told(world.lease, world.vm_id, Notice.HARD, "another date")
        assert await self.known(world) == (True, False)
        await world.expiry.told(world.lease, world.vm_id, Notice.HARD, vm.hard.text)
        assert await self.known(world) == (True, True)
        world.date("soft", -5)
        assert await self.known(world) == (False, True)

    async def known(self, world: RunningWorld) -> tuple[bool, bool]:
        (vm,) = await world.expiry.expiring(world.lease)
        assert vm.soft is not None and vm.hard is not None
        return vm.soft.told, vm.hard.told


class TestStops:
    @pytest.mark.parametrize(
        ("soft", "hard", "taken", "cause"),
        [
            (60, 60, False, None),
            (-1, None, True, None),
            (-1, 60, False, "the image has expired, and nobody is connected"),
            (None, -1, True, "the image has expired"),
            (-1, -1, False, "the image has expired"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_who_is_over(
        self, world: RunningWorld, soft: float | None, hard: float | None, taken: bool, cause: str | None
    ) -> None:
        world.date("soft", soft)
        world.date("hard", hard)
        if taken:
            await world.sessions.claim(world.session(world.lease))
        stopped = await world.expiry.stop_due(world.lease)
        events = [event["cause"] for event in world.events("vm.ordered")][1:]
        assert stopped == ([world.vm_id] if cause else [])
        assert events == ([cause] if cause else [])
        assert world.row()["desired_state"] == ("stopped" if cause else "running")
        # An order like any other, and no second one.
        assert len(await world.ownership.pending(world.lease, [world.vm_id])) == (1 if cause else 0)
        assert await world.expiry.stop_due(world.lease) == []

    @pytest_twisted.ensureDeferred
    async def test_all_are_locked_in_order_of_their_numbers(self, world: RunningWorld) -> None:
        """As by all that lock several VMs, such as a drain: else each could wait for the other."""
        second = world.new_vm("two")
        await world.bring_up(second)
        world.date("soft", -1)
        world.ask("UPDATE vm_runtimes SET vm_expiration_hard = now() WHERE vm_id = %s", second)
        holder = psycopg2.connect(world.dsn)
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM vm_runtimes WHERE vm_id = %s FOR UPDATE", (world.vm_id,))
            stopping = Deferred.fromCoroutine(world.expiry.stop_due(world.lease))
            await waiting_for_locks(world, 1)
            cursor.execute("SELECT FROM vm_runtimes WHERE vm_id = %s FOR UPDATE NOWAIT", (second,))
        holder.rollback()
        holder.close()
        assert await stopping == [second, world.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_another_epoch_stops_nothing(self, world: RunningWorld) -> None:
        world.date("hard", -1)
        assert await world.expiry.stop_due(Lease(world.lease.host_id, Epoch(world.lease.epoch - 1))) == []


class TestBells:
    def test_what_rings(self, world: RunningWorld) -> None:
        listening = psycopg2.connect(world.dsn)
        listening.autocommit = True
        listening.cursor().execute(f"LISTEN {expiry_on_host(world.lease.host_id)}; LISTEN after_it")

        def rings(sql: str) -> int:
            world.ask(sql)
            # Bells come in the order of their transactions: what has not come before this one does not come.
            world.ask("NOTIFY after_it")
            heard: list[str] = []
            while "after_it" not in heard:
                assert select.select([listening], [], [], 20)[0]
                listening.poll()
                heard += [notify.channel for notify in listening.notifies]
                listening.notifies.clear()
            return len(heard) - 1

        assert rings("UPDATE vm_runtimes SET session_id = NULL, vma_ok_ts = now()") == 0
        assert rings("UPDATE vm_runtimes SET vm_expiration_soft = now()") == 1
        assert rings("UPDATE vm_runtimes SET vma_ok_ts = now(), vm_expiration_soft_told = now()") == 0
        session = world.session(world.lease)
        world.ask(
            "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state)"
            " VALUES (%s, %s, %s, %s, %s, %s, '', 'connected')",
            session.session_id,
            session.tenant_id,
            session.vm_id,
            session.user_id,
            session.lease.host_id,
            session.lease.epoch,
        )
        assert rings(f"UPDATE vm_runtimes SET session_id = '{session.session_id}'") == 1
        assert rings("UPDATE vm_runtimes SET session_id = NULL") == 1
        assert rings("UPDATE vm_runtimes SET vm_expiration_soft = NULL") == 1
        listening.close()
