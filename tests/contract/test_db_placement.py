"""Placement by what a VM asks of its node, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from qvd.db import migrate
from qvd.db.vms import VMs
from qvd.db.wishes import COMPANY, wanted_for
from qvd.model.errors import Unavailable
from qvd.model.ids import VMId
from qvd.model.placement import Weights
from qvd.model.placement_words import describe
from qvd.model.records import Capacity, HostState, Lease
from tests.contract.stores import GIB, World
from tests.fakes.asynchronous import until
from tests.fakes.postgres import RealPostgres


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    # Without chance, the node with more room is taken.
    made.vms = VMs(made.pool, Weights(random=0.0), lambda: 0.0)
    await made.pool.start()
    yield made
    await made.close()


async def node(world: World, name: str, memory: int = 8 * GIB, driver: str | None = None, **figures: Any) -> Lease:
    """A node at work."""
    if name != "node1":
        world.new_host(name)
    lease = await world.hosts.register(name, "127.0.0.1", 30.0, driver)
    await world.hosts.renew(lease, 30.0, evolve(Capacity(memory, 2.0, memory, 1.5), **figures))
    await world.hosts.set_state(lease, HostState.RUNNING)
    return lease


def host_has(world: World, lease: Lease, key: str, value: str) -> None:
    world.ask("INSERT INTO host_properties VALUES (%s, %s, %s)", lease.host_id, key, value)


def osf_has(world: World, key: str, value: str) -> None:
    world.ask("INSERT INTO osf_properties VALUES (%s, %s, %s, %s)", world.osf, world.tenant, key, value)


def vm_has(world: World, key: str, value: str, vm_id: VMId | None = None) -> None:
    world.ask("INSERT INTO vm_properties VALUES (%s, %s, %s, %s)", vm_id or world.vm_id, world.tenant, key, value)


def user_has(world: World, key: str, value: str) -> None:
    world.ask("INSERT INTO user_properties VALUES (%s, %s, %s, %s)", world.user, world.tenant, key, value)


def image_has(world: World, key: str, value: str) -> None:
    world.ask("INSERT INTO di_properties VALUES (%s, %s, %s, %s)", world.di, world.tenant, key, value)


async def placed(world: World, vm_id: VMId | None = None) -> int:
    """The node that takes it."""
    await world.vms.order_start(vm_id or world.vm_id, "test")
    return int(world.row(vm_id)["host_id"])


async def told(world: World, vm_id: VMId | None = None) -> list[str]:
    """What an administrator reads."""
    explanation = await world.vms.explain(vm_id or world.vm_id)
    assert explanation is not None and explanation.placement is not None
    return describe(explanation.placement)


def later(coroutine: Any) -> Any:
    return Deferred.fromCoroutine(coroutine)


class TestHypervisor:
    @pytest_twisted.ensureDeferred
    async def test_it_takes_a_node_with_the_driver_that_its_osf_needs(self, world: World) -> None:
        await node(world, "node1", memory=32 * GIB, driver="lxc")
        right = await node(world, "node2", driver="kvm")
        world.ask("UPDATE osfs SET hypervisor = 'kvm'")
        assert await placed(world) == right.host_id
        lines = await told(world)
        assert lines[0] == "needs hypervisor kvm"
        assert lines[1].startswith("node1: rejected: it runs lxc, kvm is needed")

    @pytest_twisted.ensureDeferred
    async def test_a_node_that_does_not_say(self, world: World) -> None:
        await node(world, "node1", driver="kvm")
        await node(world, "node1")
        world.ask("UPDATE osfs SET hypervisor = 'kvm'")
        with pytest.raises(Unavailable, match="node1 has not said what it runs, kvm is needed"):
            await world.vms.order_start(world.vm_id, "test")
        world.ask("UPDATE osfs SET hypervisor = NULL")
        await world.vms.order_start(world.vm_id, "test")


class TestPressure:
    @pytest_twisted.ensureDeferred
    async def test_a_node_short_of_memory_gets_none(self, world: World) -> None:
        await node(world, "node1", memory=32 * GIB, memory_pressure=45.5, cpu_pressure=1.5)
        right = await node(world, "node2", memory_pressure=1.5)
        assert await placed(world) == right.host_id
        assert (await told(world))[0] == (
            "node1: rejected: it is short of memory: all its work waited for 46 % of 10 s (32768 of 32768 MiB not"
            " reserved, 32768 MiB left, 1.5 of 2 cores idle; pressure: processors 1.5 %, memory 45.5 %)"
        )

    @pytest_twisted.ensureDeferred
    async def test_one_that_does_not_know_its_own_any_more_says_so(self, world: World) -> None:
        lease = await node(world, "node1", memory_pressure=45.5)
        await world.hosts.renew(lease, 30.0, Capacity(GIB, 2.0, GIB, 1.5))
        await placed(world)


class TestProperties:
    @pytest_twisted.ensureDeferred
    async def test_a_property_that_is_required(self, world: World) -> None:
        one = await node(world, "node1", memory=32 * GIB)
        two = await node(world, "node2", memory=32 * GIB)
        right = await node(world, "node3")
        host_has(world, two, "gpu", "no")
        host_has(world, right, "gpu", "yes")
        host_has(world, one, "site", "north")
        osf_has(world, "qvd.placement.require", "gpu=yes")
        assert await placed(world) == right.host_id
        lines = await told(world)
        assert lines[0] == "needs a node with gpu=yes"
        assert lines[1].startswith("node1: rejected: it has no property gpu, gpu=yes is needed (")
        assert lines[2].startswith("node2: rejected: it has gpu=no, gpu=yes is needed (")
        assert "site" not in "".join(lines), "what no rule is about is not looked at"

    @pytest_twisted.ensureDeferred
    async def test_a_vms_own_rule_wins_over_its_osfs(self, world: World) -> None:
        lease = await node(world, "node1")
        osf_has(world, "qvd.placement.require", "gpu=yes")
        vm_has(world, "qvd.placement.require", "")
        assert await placed(world) == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_what_wins_over_what(self, world: World) -> None:
        """Its own over its user's, that over its image's, that over its OSF's."""
        for have, layer in ((osf_has, "osf"), (image_has, "di"), (user_has, "user"), (vm_has, "vm")):
            have(world, "qvd.placement.prefer", f"layer={layer}")
            wanted = await world.pool.transact("test", lambda tx: wanted_for(tx, world.vm_id))
            assert wanted.prefer == {"layer": layer}

    @pytest_twisted.ensureDeferred
    async def test_a_rule_of_the_user(self, world: World) -> None:
        await node(world, "node1")
        lease = await node(world, "node2")
        host_has(world, lease, "gpu", "yes")
        image_has(world, "qvd.placement.require", "gpu=no")
        user_has(world, "qvd.placement.require", "gpu=yes")
        assert await placed(world) == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_a_property_that_is_preferred(self, world: World) -> None:
        await node(world, "node1", memory=8 * GIB)
        better = await node(world, "node2", memory=8 * GIB)
        host_has(world, better, "ssd", "yes")
        vm_has(world, "qvd.placement.prefer", "ssd=yes")
        assert await placed(world) == better.host_id
        world.ask("UPDATE host_runtimes SET blocked = true WHERE host_id = %s", better.host_id)
        second = world.new_vm("second")
        vm_has(world, "qvd.placement.prefer", "ssd=yes", second)
        assert await placed(world, second) != better.host_id

    @pytest_twisted.ensureDeferred
    async def test_a_rule_that_is_not_understood_is_told_and_places_nothing(self, world: World) -> None:
        await node(world, "node1")
        vm_has(world, "qvd.placement.require", "gpu")
        sentence = "the property qvd.placement.require needs the form name=value, name=value: 'gpu' is not"
        with pytest.raises(Unavailable, match=f"^No node can take this virtual machine: {sentence}$"):
            await world.vms.order_start(world.vm_id, "test")
        row = world.row()
        assert (row["host_id"], row["generation"]) == (None, 0)
        assert row["last_error"].endswith(sentence)
        assert await told(world) == [f"no node was looked at. {row['last_error']}"]


class TestCompany:
    @pytest_twisted.ensureDeferred
    async def test_vms_that_are_kept_apart(self, world: World) -> None:
        nodes = {(await node(world, name)).host_id for name in ("node1", "node2")}
        osf_has(world, "service", "dns")
        osf_has(world, "qvd.placement.apart", "service")
        second, third, fourth = (world.new_vm(name) for name in ("second", "third", "fourth"))
        assert {await placed(world), await placed(world, second)} == nodes
        with pytest.raises(Unavailable, match=r"node1 has a VM with service=dns already, .*; node2 has a VM with"):
            await world.vms.order_start(third, "test")
        vm_has(world, "service", "web", fourth)
        assert await placed(world, fourth) in nodes, "its own value is another one"
        await world.vms.order_stop(world.vm_id, "test")
        world.ask("UPDATE vm_runtimes SET host_id = NULL WHERE vm_id = %s", world.vm_id)
        assert await placed(world, third) in nodes

    @pytest.mark.parametrize("layer", ["user", "image"])
    @pytest_twisted.ensureDeferred
    async def test_vms_share_what_their_user_or_image_has(self, world: World, layer: str) -> None:
        nodes = {(await node(world, name)).host_id for name in ("node1", "node2")}
        have = {"user": user_has, "image": image_has}[layer]
        osf_has(world, "service", "of the OSF")
        have(world, "service", "dns")
        have(world, "qvd.placement.apart", "service")
        second, third, fourth = (world.new_vm(name) for name in ("second", "third", "fourth"))
        assert {await placed(world), await placed(world, second)} == nodes
        with pytest.raises(Unavailable, match="has a VM with service=dns already"):
            await world.vms.order_start(third, "test")
        vm_has(world, "service", "of the OSF", fourth)
        assert await placed(world, fourth) in nodes, "the others' value of their OSF is hidden"

    @pytest_twisted.ensureDeferred
    async def test_company_is_of_those_that_have_the_value_in_the_end(self, world: World) -> None:
        """The query for many VMs and the schema's function agree, wherever a value is set."""
        host = (await node(world, "node1")).host_id
        vm_ids = [world.new_vm(f"vm{number}") for number in range(4)]
        world.ask("UPDATE vm_runtimes SET host_id = %s WHERE vm_id = ANY (%s)", host, vm_ids)
        vm_has(world, "k", "a", vm_ids[0])
        vm_has(world, "k", "b", vm_ids[1])
        for have in (osf_has, image_has, user_has):
            for value in ("a", "b"):
                table = {osf_has: "osf", image_has: "di", user_has: "user"}[have]
                world.ask(f"DELETE FROM {table}_properties")
                have(world, "k", value)
                by_function = world.ask(
                    "SELECT count(*) FROM unnest(%s::integer[]) v, vm_properties_of(v) p WHERE p.value = 'a'", vm_ids
                )
                found = await world.pool.fetch(COMPANY, {"shared": '{"k": "a"}', "vm": world.vm_id})
                assert [row["count"] for row in found] == [row["count"] for row in by_function]

    @pytest_twisted.ensureDeferred
    async def test_vms_that_are_kept_together(self, world: World) -> None:
        await node(world, "node1", memory=8 * GIB)
        await node(world, "node2", memory=8 * GIB)
        friends = [world.vm_id, *(world.new_vm(f"friend {number}") for number in range(4))]
        for vm_id in friends:
            vm_has(world, "project", "x", vm_id)
            vm_has(world, "qvd.placement.together", "project", vm_id)
        first = await placed(world, friends[0])
        # What is reserved there speaks for the other node each time.
        assert {await placed(world, vm_id) for vm_id in friends[1:]} == {first}
        assert (await told(world, friends[4]))[0] == "needs a VM beside it with project=x"

    @pytest_twisted.ensureDeferred
    async def test_another_tenants_vms_are_nobodys_company(self, world: World) -> None:
        lease = await node(world, "node1")
        tenant = world.insert("tenants (name) VALUES ('other')")
        user = world.insert("users (tenant_id, login) VALUES (%s, 'eve')", tenant)
        osf = world.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', %s)", tenant, GIB)
        vm_id = world.insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'hers')", tenant, user, osf)
        world.ask("INSERT INTO vm_properties VALUES (%s, %s, 'service', 'dns')", vm_id, tenant)
        world.ask("UPDATE vm_runtimes SET host_id = %s WHERE vm_id = %s", lease.host_id, vm_id)
        vm_has(world, "service", "dns")
        vm_has(world, "qvd.placement.apart", "service")
        assert await placed(world) == lease.host_id

    @pytest_twisted.ensureDeferred
    async def test_starts_at_one_moment_are_kept_apart(self, world: World) -> None:
        await node(world, "node1")
        await node(world, "node2")
        osf_has(world, "service", "dns")
        osf_has(world, "qvd.placement.apart", "service")
        vms = [world.vm_id, *(world.new_vm(f"vm {number}") for number in range(5))]

        async def start(vm_id: VMId) -> bool:
            try:
                await world.vms.order_start(vm_id, "storm")
            except Unavailable:
                return False
            return True

        assert sum(await gatherResults([later(start(vm_id)) for vm_id in vms])) == 2
        assert len({row["host_id"] for row in world.ask("SELECT host_id FROM vm_runtimes WHERE host_id > 0")}) == 2


class TestLocks:
    @pytest_twisted.ensureDeferred
    async def test_a_refusal_waits_for_no_node(self, world: World, database: str) -> None:
        await node(world, "node1", memory=GIB // 2)
        with closing(psycopg2.connect(database)) as busy, busy, busy.cursor() as cursor:
            cursor.execute("SELECT 1 FROM host_runtimes FOR UPDATE")
            with pytest.raises(Unavailable, match="node1 has 512 MiB free"):
                await world.vms.order_start(world.vm_id, "test")

    @pytest_twisted.ensureDeferred
    async def test_what_looked_free_is_looked_at_again_under_the_locks(self, world: World, database: str) -> None:
        lease = await node(world, "node1", memory=GIB)
        faster = world.new_vm("faster")
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE '%%FROM host_runtimes%%FOR UPDATE'"
        )
        with closing(psycopg2.connect(database)) as busy, busy, busy.cursor() as cursor:
            cursor.execute("SELECT 1 FROM host_runtimes FOR UPDATE")
            ordering = later(world.vms.order_start(world.vm_id, "test"))
            await until(lambda: world.ask(waiting))
            cursor.execute("UPDATE vm_runtimes SET host_id = %s WHERE vm_id = %s", (lease.host_id, faster))
        with pytest.raises(Unavailable, match="node1 has 0 MiB free"):
            await ordering
        assert world.row()["host_id"] is None


class TestReservations:
    @pytest_twisted.ensureDeferred
    async def test_a_vm_holds_what_it_was_started_with(self, world: World) -> None:
        lease = await node(world, "node1", memory=3 * GIB)
        await placed(world)
        assert world.row()["reserved_ram"] == GIB
        world.ask("UPDATE osfs SET memory = %s", 2 * GIB)
        second = world.new_vm("second")
        assert await placed(world, second) == lease.host_id
        assert world.row(second)["reserved_ram"] == 2 * GIB
        with pytest.raises(Unavailable, match="node1 has 0 MiB free"):
            await world.vms.order_start(world.new_vm("third"), "test")

    @pytest_twisted.ensureDeferred
    async def test_and_nothing_without_a_node(self, world: World) -> None:
        lease = await node(world, "node1")
        await world.claimed(lease)
        await world.ownership.release(lease, world.vm_id, None)
        row = world.row()
        assert (row["host_id"], row["reserved_ram"]) == (None, 0)

    @pytest_twisted.ensureDeferred
    async def test_a_move_changes_nothing(self, world: World) -> None:
        await placed_on(world, "node1")
        other = await node(world, "node2")
        world.ask("UPDATE vm_runtimes SET host_id = %s", other.host_id)
        assert world.row()["reserved_ram"] == GIB


async def placed_on(world: World, name: str) -> None:
    await node(world, name)
    await placed(world)


class TestSchema:
    def test_vms_that_were_bound_before_keep_what_they_hold(self, empty_database: str, tmp_path: Path) -> None:
        name = "0001_initial.sql"
        (tmp_path / name).write_bytes(files("qvd.db.schema").joinpath(name).read_bytes())
        migrate.initialize(empty_database, folder=tmp_path)
        old = World(empty_database)
        second = old.new_vm("second")
        old.ask("UPDATE vm_runtimes SET host_id = %s WHERE vm_id = %s", old.host, old.vm_id)
        events = old.ask("SELECT count(*) FROM events")
        assert migrate.apply_all(empty_database)[0] == "0002_placement"
        assert (old.row()["reserved_ram"], old.row(second)["reserved_ram"]) == (GIB, 0)
        assert old.ask("SELECT count(*) FROM events") == events, "no change of any VM"
        old.close_admin()

    def test_a_property_belongs_to_its_objects_tenant(self, world: World) -> None:
        other = world.insert("tenants (name) VALUES ('other')")
        for table, number in (("vm_properties", world.vm_id), ("osf_properties", world.osf)):
            with pytest.raises(psycopg2.errors.ForeignKeyViolation):
                world.ask(f"INSERT INTO {table} VALUES (%s, %s, 'gpu', 'yes')", number, other)

    def test_only_the_api_writes_properties(self, world: World, database: str, postgres: RealPostgres) -> None:
        insert = f"INSERT INTO host_properties VALUES ({world.host}, 'gpu', 'yes')"
        run_as(postgres.as_role(database, "qvd_api"), insert)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run_as(postgres.as_role(database, "qvd_node"), insert)

    def test_the_api_makes_vms(self, world: World, database: str, postgres: RealPostgres) -> None:
        """Their run-time rows pass the trigger of reservations."""
        run_as(
            postgres.as_role(database, "qvd_api"),
            "INSERT INTO vms (tenant_id, user_id, osf_id, name)"
            f" VALUES ({world.tenant}, {world.user}, {world.osf}, 'new')",
        )


def run_as(dsn: str, sql: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()
