"""Disk images on a real PostgreSQL: tags that keep themselves, resolution at start, who sees what, publication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from qvd.db import migrate
from qvd.db.images import HostImages, Images
from qvd.db.pool import Pool
from qvd.model.errors import InvalidRequest, NotFound, OwnershipLost, Unavailable
from qvd.model.expiry import ExpiryTerms
from qvd.model.ids import DIId, VMId
from qvd.model.records import Change, Guest, RegisteredImage
from qvd.model.vm import VMState
from tests.contract.stores import SECRET, World

reactor: Any = installed_reactor
NEVER = ExpiryTerms()
GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)


class ImageWorld(World):
    """One with the stores of images; L{Images} works as the role of the API."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.dsn = dsn
        api = psycopg2.extensions.make_dsn(dsn, user="qvd_api")
        self.api = Pool(reactor, api, size=2, deadline=10.0, rng=Random(1))
        self.images, self.host_images = Images(self.api), HostImages(self.pool)

    def new_di(self, version: str, state: str = "published") -> DIId:
        return DIId(
            self.insert(
                "dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, %s, %s, %s)",
                self.tenant,
                self.osf,
                f"desk{version}",
                version,
                state,
            )
        )

    def tags(self) -> dict[str, int]:
        """The image that each tag is on."""
        return {row["tag"]: row["di_id"] for row in self.ask("SELECT tag, di_id FROM di_tags")}

    async def run(self, vm_id: VMId | None = None) -> None:
        """Until the VM runs, on the only node."""
        lease = await self.running_host()
        await self.claimed(lease, vm_id)
        running = Change(VMState.RUNNING, "running", "Running", GUEST)
        await self.ownership.save(lease, vm_id or self.vm_id, VMState.STARTING, running)


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[ImageWorld]:
    made = ImageWorld(database)
    await made.pool.start()
    await made.api.start()
    yield made
    await made.api.stop()
    await made.close()


class TestTags:
    """What the database does by itself, whoever writes."""

    def test_a_first_image_gets_all_three(self, world: ImageWorld) -> None:
        assert world.tags() == {"1": world.di, "head": world.di, "default": world.di}

    def test_head_is_the_newest_published_one(self, world: ImageWorld) -> None:
        third, second = world.new_di("3", "new"), world.new_di("2")
        assert (world.tags()["head"], world.tags()["default"]) == (second, world.di)
        world.ask("UPDATE dis SET state = 'published' WHERE id = %s", third)
        assert (world.tags()["head"], world.tags()["default"]) == (third, world.di)
        world.ask("UPDATE dis SET state = 'retired' WHERE id = %s", third)
        assert world.tags()["head"] == second

    def test_an_osf_whose_images_are_not_published_has_neither(self, world: ImageWorld) -> None:
        osf = world.insert("osfs (tenant_id, name, memory) VALUES (%s, 'new', 1)", world.tenant)
        di = world.insert(
            "dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, 'x', '1', 'new')", world.tenant, osf
        )
        assert world.ask("SELECT tag, fixed FROM di_tags WHERE osf_id = %s", osf) == [{"tag": "1", "fixed": True}]
        world.ask("UPDATE dis SET state = 'published' WHERE id = %s", di)
        tags = world.ask("SELECT tag FROM di_tags WHERE osf_id = %s ORDER BY tag", osf)
        assert [row["tag"] for row in tags] == ["1", "default", "head"]

    def test_the_tags_of_a_deleted_image_go_to_the_newest_other_one(self, world: ImageWorld) -> None:
        second, third = world.new_di("2"), world.new_di("3")
        world.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'trial', %s)", world.osf, third)
        world.ask("UPDATE di_tags SET di_id = %s WHERE tag = 'default'", third)
        world.ask("DELETE FROM dis WHERE id = %s", third)
        assert world.tags() == {"1": world.di, "2": second, "head": second, "default": second}

    def test_an_image_that_vms_would_start_from_is_not_deleted(self, world: ImageWorld) -> None:
        with pytest.raises(psycopg2.errors.ForeignKeyViolation, match='The VM "one" would start from image "1"'):
            world.ask("DELETE FROM dis WHERE id = %s", world.di)
        # Its tag can move away once there is another image, but a version is that image and no other.
        world.new_di("2")
        world.ask("UPDATE vms SET di_tag = '1'")
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            world.ask("DELETE FROM dis WHERE id = %s", world.di)
        world.ask("UPDATE vms SET di_tag = 'default'")
        world.ask("DELETE FROM dis WHERE id = %s", world.di)

    @pytest_twisted.ensureDeferred
    async def test_an_image_that_a_vm_runs_is_not_deleted(self, world: ImageWorld) -> None:
        await world.run()
        world.new_di("2")
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            world.ask("DELETE FROM dis WHERE id = %s", world.di)

    def test_blocking_moves_no_tag(self, world: ImageWorld) -> None:
        second = world.new_di("2")
        world.ask("UPDATE dis SET blocked = true WHERE id = %s", second)
        assert world.tags()["head"] == second

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE di_tags SET di_id = %(second)s WHERE tag = 'head'",
            "UPDATE di_tags SET di_id = %(second)s WHERE tag = '1'",
            "UPDATE di_tags SET tag = 'other' WHERE tag = 'default'",
            "UPDATE di_tags SET fixed = true WHERE tag = 'default'",
            "DELETE FROM di_tags WHERE tag = 'head'",
            "DELETE FROM di_tags WHERE tag = 'default'",
            "DELETE FROM di_tags WHERE tag = '1'",
            "INSERT INTO di_tags (osf_id, tag, di_id, fixed) VALUES (%(osf)s, 'x', %(second)s, true)",
        ],
    )
    def test_what_people_may_not_do(self, world: ImageWorld, sql: str) -> None:
        values = {"second": world.new_di("2"), "osf": world.osf}
        before = world.tags()
        with pytest.raises(psycopg2.errors.CheckViolation, match="tag"), world._admin.cursor() as cursor:
            cursor.execute(sql, values)
        assert world.tags() == before

    def test_a_version_follows_its_name_and_is_no_other_tag(self, world: ImageWorld) -> None:
        world.ask("UPDATE dis SET version = '1.1'")
        assert world.tags() == {"1.1": world.di, "head": world.di, "default": world.di}
        for taken in ("head", "default", "1.1"):
            with pytest.raises(psycopg2.errors.UniqueViolation):
                world.new_di(taken)

    def test_what_becomes_of_an_image_is_in_the_history(self, world: ImageWorld) -> None:
        di = world.new_di("2", "uploading")
        world.ask("UPDATE dis SET state = 'fail' WHERE id = %s", di)
        (event,) = world.events("di.fail")
        assert event["before"] == {"state": "uploading"}
        assert event["after"] == {"di_id": di, "osf_id": world.osf, "version": "2", "state": "fail"}


class TestResolution:
    """The sentences reach the user twice: as the answer to an order, and in the row."""

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ("UPDATE vms SET di_tag = 'trial'", "No disk image of 'desk' carries the tag 'trial'"),
            ("UPDATE dis SET blocked = true", "is blocked by an administrator"),
            ("UPDATE dis SET state = 'ready'", "No disk image of 'desk' carries the tag 'head'"),
            ("UPDATE vms SET di_tag = 'default'; UPDATE dis SET state = 'uploading'", "is not published yet"),
            ("UPDATE vms SET di_tag = '1'; UPDATE dis SET state = 'retired'", "is not in use any more"),
            ("UPDATE vms SET di_tag = '1'; UPDATE dis SET state = 'fail'", "could not be made"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_each_way_to_fail_is_told(self, world: ImageWorld, change: str, sentence: str) -> None:
        await world.running_host()
        world.ask("UPDATE vms SET di_tag = 'head'")
        world.ask(change)
        with pytest.raises(Unavailable, match=sentence) as caught:
            await world.vms.order_start(world.vm_id, "alice")
        row = world.row()
        assert row["last_error"] == caught.value.text
        assert (row["desired_state"], row["host_id"]) == ("stopped", None)

    @pytest.mark.parametrize("change", ["blocked = true", "state = 'retired'"])
    @pytest_twisted.ensureDeferred
    async def test_an_image_that_goes_after_the_order_is_not_started(self, world: ImageWorld, change: str) -> None:
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        world.ask(f"UPDATE dis SET {change}")
        with pytest.raises(NotFound, match="The disk image '1' of 'desk', to which the tag 'default' leads, is"):
            await world.ownership.claim_start(lease, world.vm_id, SECRET)

    @pytest_twisted.ensureDeferred
    async def test_a_version_is_a_tag_to_start_from(self, world: ImageWorld) -> None:
        lease = await world.running_host()
        world.new_di("2")
        world.ask("UPDATE vms SET di_tag = '2'")
        assert (await world.claimed(lease)).image == "desk2"


class TestAvailability:
    @pytest_twisted.ensureDeferred
    async def test_a_node_without_the_image_is_rejected(self, world: ImageWorld) -> None:
        lease = await world.running_host()
        await world.host_images.publish(lease, ())
        with pytest.raises(Unavailable, match="node1 does not have image '1'"):
            await world.vms.order_start(world.vm_id, "alice")
        await world.host_images.publish(lease, [DIId(world.di)])
        await world.vms.order_start(world.vm_id, "alice")
        assert world.row()["host_id"] == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_the_hosts_own_files_are_everywhere(self, world: ImageWorld) -> None:
        lease = await world.running_host()
        await world.host_images.publish(lease, ())
        world.ask("UPDATE dis SET path = ''")
        await world.vms.order_start(world.vm_id, "alice")
        assert world.row()["host_id"] == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_what_an_earlier_epoch_has_said_counts_for_nothing(self, world: ImageWorld) -> None:
        """Such as before a downgrade to a release whose nodes do not look."""
        await world.host_images.publish(await world.running_host(), ())
        lease = await world.running_host()
        assert await world.host_images.registered(lease) == [RegisteredImage(DIId(world.di), "desk", False)]
        await world.vms.order_start(world.vm_id, "alice")
        assert world.row()["host_id"] == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_what_is_published_is_known(self, world: ImageWorld) -> None:
        lease, second = await world.running_host(), world.new_di("2", "uploading")
        first = DIId(world.di)
        await world.host_images.publish(lease, [first, second])
        gone = DIId(4711)
        await world.host_images.publish(lease, [second, gone])
        assert await world.host_images.registered(lease) == [
            RegisteredImage(first, "desk", False),
            RegisteredImage(second, "desk2", True),
        ]
        world.ask("DELETE FROM dis WHERE id = %s", second)
        assert world.ask("SELECT * FROM host_images") == []

    @pytest_twisted.ensureDeferred
    async def test_only_the_present_epoch_publishes(self, world: ImageWorld) -> None:
        old = await world.running_host()
        await world.running_host()
        with pytest.raises(OwnershipLost):
            await world.host_images.publish(old, [DIId(world.di)])


class TestPublication:
    @pytest_twisted.ensureDeferred
    async def test_it_takes_tags_over(self, world: ImageWorld) -> None:
        second = world.new_di("2", "ready")
        assert await world.images.publish(second, ["default", " trial "], NEVER, "admin") == ()
        assert world.tags() == {"1": world.di, "2": second, "head": second, "default": second, "trial": second}
        (event,) = [event for event in world.events("di.published") if event["before"]]
        assert event["cause"] == "admin"

    @pytest_twisted.ensureDeferred
    async def test_vms_with_an_older_image_get_dates(self, world: ImageWorld) -> None:
        await world.run()
        stopped, pinned = world.new_vm("stopped"), world.new_vm("pinned")
        world.ask("UPDATE vms SET di_tag = '1' WHERE id = %s", pinned)
        await world.run(pinned)
        second = world.new_di("2", "ready")
        assert await world.images.publish(second, ["default"], ExpiryTerms(60, 3600), "admin") == (world.vm_id,)
        (left,) = world.ask(
            "SELECT extract(epoch FROM vm_expiration_soft - now())::float8 AS soft,"
            " extract(epoch FROM vm_expiration_hard - now())::float8 AS hard FROM vm_runtimes WHERE vm_id = %s",
            world.vm_id,
        )
        assert 50 < left["soft"] <= 60 and 3590 < left["hard"] <= 3600
        for vm_id in (stopped, pinned):
            assert world.row(vm_id)["vm_expiration_soft"] is None

    @pytest_twisted.ensureDeferred
    async def test_a_vm_that_runs_the_image_already_gets_none(self, world: ImageWorld) -> None:
        await world.run()
        assert await world.images.set_tag(DIId(world.di), "default", ExpiryTerms(0, 0), "admin") == ()

    @pytest_twisted.ensureDeferred
    async def test_a_date_that_comes_sooner_stays(self, world: ImageWorld) -> None:
        await world.run()
        await world.images.set_tag(world.new_di("2"), "default", ExpiryTerms(hard=60), "admin")
        before = world.row()
        await world.images.set_tag(world.new_di("3"), "default", ExpiryTerms(soft=10, hard=3600), "admin")
        row = world.row()
        assert row["vm_expiration_hard"] == before["vm_expiration_hard"]
        assert before["vm_expiration_soft"] is None and row["vm_expiration_soft"] is not None

    @pytest_twisted.ensureDeferred
    async def test_the_dates_end_with_the_run(self, world: ImageWorld) -> None:
        await world.run()
        lease = await world.running_host()
        await world.images.set_tag(world.new_di("2"), "default", ExpiryTerms(60, 60), "admin")
        world.ask("UPDATE vm_runtimes SET host_epoch = %s", lease.epoch)
        await world.ownership.release(lease, world.vm_id, None)
        assert (world.row()["vm_expiration_soft"], world.row()["vm_expiration_hard"]) == (None, None)
        world.ask("UPDATE vm_runtimes SET vm_expiration_hard = now(), vm_expiration_hard_told = now()")
        await world.claimed(lease)
        assert (world.row()["vm_expiration_hard"], world.row()["vm_expiration_hard_told"]) == (None, None)

    @pytest.mark.parametrize("tags", [[""], ["1"], ["2", "1"]])
    @pytest_twisted.ensureDeferred
    async def test_tags_that_nobody_moves(self, world: ImageWorld, tags: Collection[str]) -> None:
        second, before = world.new_di("2", "ready"), world.tags()
        with pytest.raises(InvalidRequest, match="cannot be moved"):
            await world.images.publish(second, tags, NEVER, "admin")
        assert world.tags() == before
        assert world.ask("SELECT state FROM dis WHERE id = %s", second)[0]["state"] == "ready"

    @pytest.mark.parametrize("state", ["uploading", "fail", "published"])
    @pytest_twisted.ensureDeferred
    async def test_only_a_ready_image_is_published(self, world: ImageWorld, state: str) -> None:
        with pytest.raises(InvalidRequest, match=f"'2' is {state}"):
            await world.images.publish(world.new_di("2", state), (), NEVER, "admin")

    @pytest_twisted.ensureDeferred
    async def test_only_a_published_image_is_tagged(self, world: ImageWorld) -> None:
        with pytest.raises(InvalidRequest, match="publish it first"):
            await world.images.set_tag(world.new_di("2", "ready"), "default", NEVER, "admin")
        world.new_di("3")
        with pytest.raises(InvalidRequest, match="cannot be moved"):
            await world.images.set_tag(DIId(world.di), "head", NEVER, "admin")
        with pytest.raises(NotFound):
            await world.images.set_tag(DIId(4711), "default", NEVER, "admin")

    @pytest_twisted.ensureDeferred
    async def test_a_start_at_the_same_moment_is_not_missed(self, world: ImageWorld) -> None:
        """It has read the older image, and has not been committed yet."""
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        second = world.new_di("2", "ready")
        with closing(psycopg2.connect(world.dsn)) as starting:
            starting.cursor().execute(
                "UPDATE vm_runtimes SET vm_state = 'starting', host_epoch = %s, current_di_id = %s,"
                " acked_generation = generation WHERE vm_id = %s",
                (lease.epoch, world.di, world.vm_id),
            )
            terms = ExpiryTerms(hard=60)
            publishing = Deferred.fromCoroutine(world.images.publish(second, ["default"], terms, "admin"))
            for _ in range(500):
                if world.ask("SELECT 1 FROM pg_locks WHERE NOT granted"):
                    break
                await deferLater(reactor, 0.02)
            starting.commit()
        assert await publishing == (world.vm_id,)
        assert world.row()["vm_expiration_hard"] is not None


class TestMigration:
    def test_images_of_before(self, empty_database: str, tmp_path: Path) -> None:
        """Their tags stay where they are; what is missing comes. The files of other parts are left out."""
        schema = files("qvd.db.schema")
        folder = tmp_path / "schema"
        folder.mkdir()
        (folder / "0001_initial.sql").write_bytes((schema / "0001_initial.sql").read_bytes())
        migrate.initialize(empty_database, folder=folder)
        with closing(psycopg2.connect(empty_database)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO tenants (id, name) VALUES (1, 'acme')")
            cursor.execute("INSERT INTO osfs (id, tenant_id, name, memory) VALUES (1, 1, 'desk', 1), (2, 1, 'bare', 1)")
            cursor.execute(
                "INSERT INTO dis (id, tenant_id, osf_id, path, version) VALUES (1, 1, 1, 'a', '1'),"
                " (2, 1, 1, 'b', '2'), (3, 1, 1, 'c', 'default'), (4, 1, 1, 'd', '4')"
            )
            tags = "(1, 'default', 2), (1, '1', 1), (1, '2', 4)"
            cursor.execute(f"INSERT INTO di_tags (osf_id, tag, di_id) VALUES {tags}")
        (folder / "0004_images.sql").write_bytes((schema / "0004_images.sql").read_bytes())
        migrate.apply_all(empty_database, folder)
        with closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT tag, di_id, fixed FROM di_tags ORDER BY tag")
            assert cursor.fetchall() == [
                ("1", 1, True),
                ("2", 4, False),
                ("4", 4, True),
                ("default", 2, False),
                ("head", 4, False),
            ]
            cursor.execute("SELECT DISTINCT state FROM dis")
            assert cursor.fetchall() == [("published",)]
