"""Marks of garbage and the right to collect it, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from random import Random

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from qvd.db.garbage import Garbage
from qvd.db.pool import Pool
from qvd.model.errors import Conflict, DatabaseUnavailable, OwnershipLost, PermanentError
from qvd.model.garbage import Key, Kind, Thing
from qvd.model.ids import VMId
from tests.contract.stores import SECRET, World
from tests.contract.test_db_cluster import waiting_for_locks
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, spawn

LEASE = 60.0
HOME = Thing(Key("s", "1/57"), Kind.HOME, VMId(57))
LAYER = Thing(Key("s", "57"), Kind.LAYER, VMId(57))
BASE = Thing(Key("b", "desk-1"), Kind.BASE, image="new.tar")


class GarbageWorld(World):
    """One with a token.

    @ivar moved: the dates that were given to what moves.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.dsn = dsn
        self.garbage = Garbage(self.pool)
        self.token = ""
        self.moved: list[str] = []

    async def move(self, date: str, to: str = "") -> str:
        self.moved.append(date)
        return to

    async def collect(self, thing: Thing, age: float = 0.0, to: str = "") -> bool:
        return await self.garbage.collect(self.token, LEASE, thing, age, partial(self.move, to=to), "test")

    def marks(self) -> list[tuple[str, str]]:
        rows = self.ask("SELECT path, kind FROM garbage_marks ORDER BY path")
        return [(row["path"], row["kind"]) for row in rows]

    def make_vm(self, vm_id: int) -> None:
        self.ask(
            "INSERT INTO vms (id, tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s, %s)",
            vm_id,
            self.tenant,
            self.user,
            self.osf,
            f"vm{vm_id}",
        )


@asynchronous_fixture
async def world(database: str) -> AsyncIterator[GarbageWorld]:
    made = GarbageWorld(database)
    await made.pool.start()
    made.token = await made.garbage.take("node1", LEASE)
    yield made
    await made.close()


class TestKnown:
    @asynchronous
    async def test_vms_and_images(self, world: GarbageWorld) -> None:
        known = await world.garbage.known()
        assert (dict(known.vms), set(known.images)) == ({world.vm_id: None}, {("desk", None)})

    @asynchronous
    async def test_a_vm_is_busy_from_its_placement_to_its_release(self, world: GarbageWorld) -> None:
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "test")
        assert (await world.garbage.known()).vms[world.vm_id] == "node1"
        await world.claimed(lease)
        assert (await world.garbage.known()).vms[world.vm_id] == "node1"
        await world.vms.order_stop(world.vm_id, "test")
        await world.ownership.release(lease, world.vm_id, None)
        assert (await world.garbage.known()).vms[world.vm_id] is None

    @asynchronous
    async def test_an_image_that_a_vm_runs_on_keeps_whatever_was_unpacked_from_its_file(
        self, world: GarbageWorld
    ) -> None:
        old = Thing(Key("b", "desk@1"), Kind.BASE, image="desk", checksum="1" * 64)
        lease = await world.running_host()
        await world.claimed(lease)
        world.ask("UPDATE dis SET checksum = %s", "2" * 64)
        assert (await world.garbage.known()).images == {("desk", None)}
        await world.garbage.mark([old])
        assert not await world.collect(old)
        await world.vms.order_stop(world.vm_id, "test")
        await world.ownership.release(lease, world.vm_id, None)
        assert (await world.garbage.known()).images == {("desk", "2" * 64)}
        assert await world.collect(old)

    @asynchronous
    async def test_the_installation_has_one_name(self, world: GarbageWorld) -> None:
        name = await world.garbage.installation()
        assert name == await world.garbage.installation()
        assert len(name) == 36


class TestMarks:
    @asynchronous
    async def test_they_keep_their_time(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME, BASE])
        world.ask("UPDATE garbage_marks SET since = '2026-01-02 03:04:05+00'")
        await world.garbage.mark([HOME])
        marks = await world.garbage.marks(["s"])
        assert list(marks) == [HOME.key]
        assert marks[HOME.key].since == "2026-01-02 03:04"
        assert marks[HOME.key].age > 86400

    @asynchronous
    async def test_they_go(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME, LAYER])
        await world.garbage.unmark([HOME.key, Key("s", "unknown")])
        assert world.marks() == [("57", "layer")]
        await world.garbage.mark([])
        await world.garbage.unmark([])

    @asynchronous
    async def test_a_vm_that_is_made_takes_its_marks_away(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME, LAYER, BASE])
        world.make_vm(57)
        assert world.marks() == [("desk-1", "base")]

    @asynchronous
    async def test_a_vm_that_starts_takes_the_mark_of_its_layer_away(self, world: GarbageWorld) -> None:
        await world.garbage.mark([Thing(Key("s", "l"), Kind.LAYER, world.vm_id)])
        lease = await world.running_host()
        await world.claimed(lease)
        assert world.marks() == []

    @asynchronous
    async def test_what_it_has_left_on_another_node_stays_marked(self, world: GarbageWorld) -> None:
        mine, other = (
            Thing(Key("s", f"1/node-{node}"), Kind.LAYER, world.vm_id, node=node) for node in ("node1", "node2")
        )
        await world.garbage.mark([mine, other])
        lease = await world.running_host()
        await world.claimed(lease)
        assert world.marks() == [("1/node-node2", "layer")]
        await world.garbage.mark([mine])
        assert not await world.collect(mine)
        assert await world.collect(other)

    @asynchronous
    async def test_an_image_that_is_registered_takes_the_mark_of_its_files_away(self, world: GarbageWorld) -> None:
        await world.garbage.mark([BASE])
        world.ask("UPDATE dis SET path = 'new.tar'")
        assert world.marks() == []


class TestRight:
    @asynchronous
    async def test_one_at_a_time(self, world: GarbageWorld) -> None:
        with pytest.raises(Conflict, match="by node1"):
            await world.garbage.take("node2", LEASE)
        await world.garbage.give_back(world.token)
        await world.garbage.take("node2", LEASE)

    @asynchronous
    async def test_it_passes_on_when_its_holder_is_silent(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME])
        world.ask("UPDATE garbage_collector SET until = clock_timestamp() - interval '1 second'")
        # Nobody else has come: it goes on.
        await world.garbage.renew(world.token, LEASE)
        world.ask("UPDATE garbage_collector SET until = clock_timestamp() - interval '1 second'")
        other = await world.garbage.take("node2", LEASE)
        with pytest.raises(OwnershipLost):
            await world.garbage.renew(world.token, LEASE)
        with pytest.raises(OwnershipLost):
            await world.collect(HOME)
        await world.garbage.give_back(world.token)
        await world.garbage.renew(other, LEASE)
        assert world.moved == []
        assert world.marks() == [("1/57", "home")]


class TestCollect:
    @asynchronous
    async def test_to_the_trash(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME])
        assert await world.collect(HOME, to=".trash/x")
        (today,) = world.ask("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day")
        assert world.moved == [today["day"]]
        assert world.marks() == [(".trash/x", "trash")]
        (event,) = world.events("garbage.trashed")
        assert (event["vm_id"], event["cause"]) == (57, "test")
        assert event["before"] == {"kind": "home", "path": "1/57", "trash": ".trash/x"}

    @asynchronous
    async def test_for_good(self, world: GarbageWorld) -> None:
        await world.garbage.mark([LAYER])
        assert await world.collect(LAYER)
        assert world.marks() == []
        assert len(world.events("garbage.deleted")) == 1

    @asynchronous
    async def test_not_without_a_mark_and_not_too_young(self, world: GarbageWorld) -> None:
        assert not await world.collect(HOME)
        await world.garbage.mark([HOME])
        assert not await world.collect(HOME, age=60.0)
        assert not await world.collect(Thing(HOME.key, Kind.HOME, VMId(58)))
        assert world.moved == []
        assert world.marks() == [("1/57", "home")]

    @asynchronous
    async def test_not_with_a_reference(self, world: GarbageWorld) -> None:
        mine = [Thing(Key("s", kind.value), kind, world.vm_id) for kind in (Kind.HOME, Kind.PERSISTENT)]
        base = Thing(Key("b", "base"), Kind.BASE, image="desk")
        layer = Thing(Key("s", "layer"), Kind.LAYER, world.vm_id)
        await world.garbage.mark([*mine, base])
        for thing in (*mine, base):
            assert not await world.collect(thing)
        world.ask("UPDATE vm_runtimes SET host_id = %s WHERE vm_id = %s", world.host, world.vm_id)
        await world.garbage.mark([layer])
        assert not await world.collect(layer)
        assert world.moved == []

    @asynchronous
    async def test_what_cannot_be_moved_keeps_its_mark(self, world: GarbageWorld) -> None:
        async def fail(date: str) -> str:
            raise PermanentError("its lock is held")

        await world.garbage.mark([HOME])
        with pytest.raises(PermanentError):
            await world.garbage.collect(world.token, LEASE, HOME, 0.0, fail, "test")
        assert world.marks() == [("1/57", "home")]
        assert world.events("garbage.trashed") == []


class Move:
    """One that takes as long as the test likes."""

    def __init__(self) -> None:
        self.begun: Deferred[None] = Deferred()
        self.going: Deferred[str] = Deferred()

    async def __call__(self, date: str) -> str:
        self.begun.callback(None)
        return await self.going


class TestRaces:
    """What comes to refer to a thing while it is taken away."""

    @asynchronous
    async def test_a_vm_is_made_after_the_move_or_before_the_look(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME])
        move = Move()
        taking = spawn(world.garbage.collect(world.token, LEASE, HOME, 0.0, move, "test"))
        await move.begun
        world.ask("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            world.make_vm(57)
        move.going.callback("")
        assert await taking
        world.make_vm(57)

    @asynchronous
    async def test_a_vm_that_is_just_being_made_is_waited_for(self, world: GarbageWorld) -> None:
        for end, taken in (
            (psycopg2.extensions.connection.rollback, True),
            (psycopg2.extensions.connection.commit, False),
        ):
            await world.garbage.mark([HOME])
            holder = psycopg2.connect(world.dsn)
            with holder.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO vms (id, tenant_id, user_id, osf_id, name) VALUES (57, %s, %s, %s, 'new')",
                    (world.tenant, world.user, world.osf),
                )
            taking = spawn(world.collect(HOME))
            await waiting_for_locks(world, 1)
            end(holder)
            holder.close()
            assert await taking is taken

    @asynchronous
    async def test_a_vm_starts_after_the_move(self, world: GarbageWorld) -> None:
        layer = Thing(Key("s", "l"), Kind.LAYER, world.vm_id)
        lease = await world.running_host()
        await world.garbage.mark([layer])
        move = Move()
        taking = spawn(world.garbage.collect(world.token, LEASE, layer, 0.0, move, "test"))
        await move.begun
        await world.vms.order_start(world.vm_id, "test")
        starting = spawn(world.ownership.claim_start(lease, world.vm_id, SECRET))
        await waiting_for_locks(world, 1)
        assert not starting.called
        move.going.callback("")
        assert await taking
        assert await starting is not None

    @asynchronous
    async def test_a_vm_that_starts_first_keeps_its_layer(self, world: GarbageWorld) -> None:
        layer = Thing(Key("s", "l"), Kind.LAYER, world.vm_id)
        lease = await world.running_host()
        await world.garbage.mark([layer])
        await world.claimed(lease)
        assert not await world.collect(layer)
        assert world.moved == []

    @asynchronous
    async def test_nobody_else_begins_during_a_move(self, world: GarbageWorld) -> None:
        await world.garbage.mark([HOME])
        world.ask("UPDATE garbage_collector SET until = clock_timestamp() - interval '1 second'")
        move = Move()
        taking = spawn(world.garbage.collect(world.token, 0.0, HOME, 0.0, move, "test"))
        await move.begun
        other = spawn(world.garbage.take("node2", LEASE))
        await waiting_for_locks(world, 1)
        assert not other.called
        move.going.callback("")
        assert await taking
        await other
        with pytest.raises(OwnershipLost):
            await world.garbage.renew(world.token, LEASE)

    @asynchronous
    async def test_a_move_that_hangs_is_given_up_with_the_transaction(self, database: str) -> None:
        world = GarbageWorld(database)
        hasty = Pool(reactor, psycopg2.extensions.make_dsn(database, user="qvd_node"), 2, 0.5, Random(1))
        await hasty.start()
        garbage = Garbage(hasty)
        token = await garbage.take("node1", LEASE)
        await garbage.mark([HOME])
        move = Move()
        with pytest.raises(DatabaseUnavailable):
            await garbage.collect(token, LEASE, HOME, 0.0, move, "test")
        # It was told, so that it can undo what it does late.
        assert move.going.called
        await hasty.stop()
        rows = world.ask("SELECT path FROM garbage_marks FOR UPDATE")
        assert [row["path"] for row in rows] == [HOME.key.path]
        await world.close()
