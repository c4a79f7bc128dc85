"""Addresses of VMs, as a real PostgreSQL gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import psycopg2.errors
import pytest
import pytest_twisted
from psycopg2.extensions import make_dsn

from qvd.db import cli
from qvd.db.migrate import SchemaError
from qvd.db.network import AddressPlans, read_plan, set_plan
from qvd.db.ownership import Ownership
from qvd.model.ids import VMId
from qvd.model.network import AddressPlan, parse_plan
from qvd.model.records import Nic
from tests.contract.stores import SECRET, World

pytestmark = pytest.mark.contract

PLAN = parse_plan("10.0.0.0/24", "10.0.0.16", "10.0.0.20", "10.0.0.21")
SMALL = parse_plan("10.0.0.0/28", "10.0.0.10")
"""For five VMs: 10 to 14."""


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


@pytest.fixture
def dsn(world: World, database: str) -> str:
    return database


def addresses(world: World) -> list[str]:
    return [row["ip"] for row in world.ask("SELECT host(ip) AS ip FROM vms ORDER BY id")]


def address(world: World, vm_id: VMId) -> str:
    (row,) = world.ask("SELECT host(ip) AS ip FROM vms WHERE id = %s", vm_id)
    return str(row["ip"])


def give(dsn: str, plan: AddressPlan = PLAN) -> None:
    set_plan(dsn, plan, "a test")


class TestRange:
    @pytest_twisted.ensureDeferred
    async def test_nodes_read_what_was_set(self, world: World, dsn: str) -> None:
        assert await AddressPlans(world.pool).current() is None
        give(dsn)
        assert await AddressPlans(world.pool).current() == PLAN
        assert read_plan(dsn) == (PLAN, 1)
        (event,) = world.events("network.range")
        assert (event["after"]["network"], event["cause"]) == ("10.0.0.0/24", "a test")

    def test_vms_of_before_get_addresses_in_order(self, world: World, dsn: str) -> None:
        for number in range(5):
            world.new_vm(f"more {number}")
        assert addresses(world) == [None] * 6
        give(dsn)
        assert addresses(world) == [f"10.0.0.{last}" for last in (16, 17, 18, 19, 22, 23)]

    def test_a_larger_one_changes_no_address(self, world: World, dsn: str) -> None:
        give(dsn)
        give(dsn, parse_plan("10.0.0.0/16", "10.0.0.8"))
        assert addresses(world) == ["10.0.0.16"]
        assert read_plan(dsn)[0] == parse_plan("10.0.0.0/16", "10.0.0.8")

    @pytest.mark.parametrize(
        "plan",
        [
            parse_plan("10.0.0.0/24", "10.0.0.17"),
            parse_plan("10.1.0.0/24", "10.1.0.16"),
            parse_plan("10.0.0.0/24", "10.0.0.10", "10.0.0.16"),
        ],
    )
    def test_one_that_leaves_a_vm_outside_is_refused(self, world: World, dsn: str, plan: AddressPlan) -> None:
        give(dsn)
        with pytest.raises(
            SchemaError, match=r'The VM "one" has the address 10.0.0.16, which the range .* has no place'
        ):
            give(dsn, plan)
        assert read_plan(dsn) == (PLAN, 1)

    def test_one_with_too_few_addresses_for_the_vms_is_refused(self, world: World, dsn: str) -> None:
        for number in range(5):
            world.new_vm(f"more {number}")
        with pytest.raises(SchemaError, match="has no free address"):
            give(dsn, SMALL)
        assert read_plan(dsn) == (None, 0)

    @pytest.mark.parametrize(
        "values",
        [
            "'10.0.0.0/24', '10.0.1.0', NULL",
            "'10.0.0.0/24', '10.0.0.1', NULL",
            "'10.0.0.0/24', '10.0.0.255', NULL",
            "'10.0.0.0/24', '10.0.0.9', '10.0.0.255'",
            "'fd00::/64', 'fd00::9', NULL",
        ],
    )
    def test_nonsense_is_refused_whoever_writes_it(self, world: World, values: str) -> None:
        with pytest.raises(psycopg2.errors.CheckViolation):
            world.ask(f"INSERT INTO vm_network (network, vms_from, gateway) VALUES ({values})")

    def test_there_is_only_one(self, world: World, dsn: str) -> None:
        give(dsn)
        with pytest.raises(psycopg2.errors.UniqueViolation):
            world.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.2.0.0/24', '10.2.0.9')")


class TestAddresses:
    def test_a_new_vm_gets_one_and_an_old_one_rests(self, world: World, dsn: str) -> None:
        give(dsn)
        second = world.new_vm("second")
        assert addresses(world) == ["10.0.0.16", "10.0.0.17"]
        world.ask("DELETE FROM vms WHERE id = %s", second)
        assert address(world, world.new_vm("third")) == "10.0.0.18"

    def test_all_are_given_and_then_it_is_full(self, world: World, dsn: str) -> None:
        give(dsn, SMALL)
        others = [world.new_vm(f"more {number}") for number in range(4)]
        assert sorted(addresses(world)) == [f"10.0.0.{last}" for last in range(10, 15)]
        with pytest.raises(psycopg2.Error, match=r"10.0.0.0/28 has no free address from 10.0.0.10 on"):
            world.new_vm("one too many")
        world.ask("DELETE FROM vms WHERE id = %s", others[1])
        assert address(world, world.new_vm("in its place")) == "10.0.0.12"

    @pytest.mark.parametrize("wrong", ["10.0.0.15", "10.0.0.255", "10.0.0.20", "10.0.0.21", "10.0.1.16", "fd00::1"])
    def test_one_that_is_chosen_must_be_for_vms(self, world: World, dsn: str, wrong: str) -> None:
        give(dsn)
        with pytest.raises(psycopg2.errors.CheckViolation):
            world.ask("UPDATE vms SET ip = %s WHERE id = %s", wrong, world.vm_id)
        assert addresses(world) == ["10.0.0.16"]

    def test_one_may_be_chosen(self, world: World, dsn: str) -> None:
        with pytest.raises(psycopg2.errors.CheckViolation, match="no VM network yet"):
            world.ask("UPDATE vms SET ip = '10.0.0.99' WHERE id = %s", world.vm_id)
        give(dsn)
        world.ask("UPDATE vms SET ip = '10.0.0.99' WHERE id = %s", world.vm_id)
        assert addresses(world) == ["10.0.0.99"]
        other = world.new_vm("other")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            world.ask("UPDATE vms SET ip = '10.0.0.99' WHERE id = %s", other)

    @pytest.mark.acceptance(17)
    def test_fifty_creations_at_once(self, world: World, dsn: str) -> None:
        give(dsn)
        insert = "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)"

        def create(number: int) -> None:
            with closing(psycopg2.connect(make_dsn(dsn, user="qvd_api"))) as connection, connection.cursor() as cursor:
                cursor.execute(insert, (world.tenant, world.user, world.osf, f"at once {number}"))
                connection.commit()

        with ThreadPoolExecutor(50) as threads:
            list(threads.map(create, range(50)))
        found = addresses(world)
        assert len(set(found)) == 51
        assert None not in found

    def test_creations_during_the_setting_of_the_range_miss_nothing(self, world: World, dsn: str) -> None:
        """One that has begun before, and is committed while the range waits for it."""
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor, ThreadPoolExecutor(1) as one:
            cursor.execute(
                "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'early')",
                (world.tenant, world.user, world.osf),
            )
            setting = one.submit(give, dsn)
            while not world.ask("SELECT pid FROM pg_locks WHERE NOT granted"):
                assert not setting.done()
            connection.commit()
            setting.result()
        assert addresses(world) == ["10.0.0.16", "10.0.0.17"]


class TestCards:
    def test_each_vm_has_a_mac_of_its_own_that_nobody_changes(self, world: World, dsn: str) -> None:
        (row,) = world.ask("SELECT id, mac::text FROM vms")
        assert row["mac"] == f"02:51:00:00:00:{row['id']:02x}"
        with pytest.raises(psycopg2.errors.GeneratedAlways):
            world.ask("UPDATE vms SET mac = '02:00:00:00:00:01'")
        (large,) = world.ask(
            "INSERT INTO vms (id, tenant_id, user_id, osf_id, name) VALUES (2147483647, %s, %s, %s, 'l')"
            " RETURNING mac::text",
            world.tenant,
            world.user,
            world.osf,
        )
        assert large["mac"] == "02:51:7f:ff:ff:ff"


class TestClaim:
    @pytest_twisted.ensureDeferred
    async def test_without_a_range_there_is_no_card(self, world: World) -> None:
        assert (await world.claimed(await world.running_host())).nic is None

    @pytest_twisted.ensureDeferred
    async def test_a_claimed_vm_has_its_place_in_the_network(self, world: World, dsn: str) -> None:
        give(dsn)
        mac = f"02:51:00:00:00:{world.vm_id:02x}"
        spec = await world.claimed(await world.running_host())
        assert spec.nic == Nic("10.0.0.16", 24, mac, "10.0.0.20")

    @pytest_twisted.ensureDeferred
    async def test_a_node_is_the_gateway_where_there_is_no_other(self, world: World, dsn: str) -> None:
        give(dsn, SMALL)
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "test")
        spec = await Ownership(world.pool, "10.0.0.2").claim_start(lease, world.vm_id, SECRET)
        assert spec is not None
        assert spec.nic is not None
        assert spec.nic.gateway == "10.0.0.2"


class TestRights:
    @pytest.fixture
    def node(self, world: World, dsn: str) -> Iterator[psycopg2.extensions.cursor]:
        with closing(psycopg2.connect(make_dsn(dsn, user="qvd_node"))) as connection, connection.cursor() as cursor:
            yield cursor

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE vm_network SET gateway = NULL",
            "DELETE FROM vm_network",
            "UPDATE vms SET ip = NULL",
            "SELECT give_vm_address()",
        ],
    )
    def test_nodes_only_read(self, node: psycopg2.extensions.cursor, sql: str) -> None:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            node.execute(sql)

    def test_the_api_sets_a_range_and_gives_addresses(self, world: World, dsn: str) -> None:
        set_plan(make_dsn(dsn, user="qvd_api"), PLAN, "the API")
        assert addresses(world) == ["10.0.0.16"]


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], dsn: str, *words: str) -> tuple[int, str]:
        status = cli.main(["network", "--dsn", dsn, *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    def test_it_sets_and_shows(self, world: World, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(capsys, dsn)[0] == cli.REFUSED
        status, said = self.run(capsys, dsn, "--range", "10.0.0.0/16", "--vms-from", "10.0.1.0", "--dns", "10.0.0.9")
        assert status == cli.DONE
        assert "10.0.0.1 to 10.0.0.255" in said
        assert "10.0.1.0 to 10.0.255.254, 1 of 65279 in use" in said
        assert self.run(capsys, dsn) == (cli.DONE, said)

    def test_refusals(self, world: World, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(capsys, dsn, "--range", "10.0.0.1/16", "--vms-from", "10.0.1.0")[0] == cli.USAGE
        assert self.run(capsys, dsn, "--gateway", "10.0.0.1")[0] == cli.USAGE
        give(dsn)
        status, said = self.run(capsys, dsn, "--range", "10.9.0.0/16", "--vms-from", "10.9.1.0")
        assert status == cli.REFUSED
        assert 'The VM "one" has the address 10.0.0.16' in said
