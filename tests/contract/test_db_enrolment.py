"""How machines become nodes, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from qvd.db import cli
from qvd.db.enrolment import NEW_TOKEN, Enrolments, Machine, digest, issue_token, new_token
from qvd.db.hosts import Hosts
from qvd.db.nodes import Nodes
from qvd.db.pool import Pool
from qvd.model.errors import Conflict, Forbidden, InvalidRequest, QVDError
from qvd.model.records import Drain, HostState
from qvd.model.secret import Secret
from tests.contract.stores import World

MACHINE = Machine("node9", "192.0.2.9", Secret("what node9 knows"))
ANOTHER = Machine("node9", "192.0.2.10", Secret("what another machine knows"))


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


def later(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def token(world: World, name: str | None = None, hours: float = 1.0) -> Secret:
    made, parameters = new_token(name, hours, "carol")
    with world._admin.cursor() as cursor:
        cursor.execute(NEW_TOKEN, parameters)
    return made


async def enrol(world: World, secret: Secret, machine: Machine = MACHINE) -> int:
    return await Enrolments(world.pool).enrol(secret, machine)


async def refused(world: World, kind: type[QVDError], secret: Secret, machine: Machine = MACHINE) -> str:
    with pytest.raises(kind) as found:
        await enrol(world, secret, machine)
    return found.value.text


def hosts_of(world: World, machine: Machine) -> Hosts:
    return Hosts(world.pool, lambda: machine.identity)


class TestTokens:
    @pytest_twisted.ensureDeferred
    async def test_one_makes_one_node(self, world: World) -> None:
        secret = token(world)
        host_id = await enrol(world, secret)
        (row,) = world.ask("SELECT * FROM hosts WHERE id = %s", host_id)
        assert (row["name"], row["address"]) == ("node9", "192.0.2.9")
        assert bytes(row["identity_hash"]) == digest(MACHINE.identity)
        lease = await hosts_of(world, MACHINE).register("node9", "192.0.2.9", 30.0)
        assert lease.host_id == host_id
        (event,) = world.events("host.enrolled")
        assert (event["host_id"], event["after"]["name"]) == (host_id, "node9")
        other = Machine("node10", "192.0.2.11", Secret("third"))
        assert "used up by the node 'node9'" in await refused(world, Forbidden, secret, other)

    @pytest_twisted.ensureDeferred
    async def test_only_the_hash_is_kept_and_the_history_has_none(self, world: World) -> None:
        secret = token(world, "node9")
        text = str(world.ask("SELECT * FROM host_tokens")) + str(world.ask("SELECT * FROM events"))
        assert secret.reveal() not in text
        (event,) = world.events("host.token")
        assert (event["after"]["name"], event["cause"]) == ("node9", "carol")

    @pytest_twisted.ensureDeferred
    async def test_an_answer_that_was_lost_can_be_asked_for_again(self, world: World) -> None:
        secret = token(world)
        assert await enrol(world, secret) == await enrol(world, secret)
        assert len(world.events("host.enrolled")) == 1
        assert "used up" in await refused(world, Forbidden, secret, ANOTHER)

    @pytest_twisted.ensureDeferred
    async def test_bad_ones(self, world: World) -> None:
        assert "no such enrolment token" in await refused(world, Forbidden, Secret("guessed"))
        late = token(world)
        world.ask("UPDATE host_tokens SET expires_at = now() - interval '1 minute'")
        assert "expired at 20" in await refused(world, Forbidden, late)
        other = token(world, "node8")
        assert "made for the node 'node8', but nodename in node.conf is 'node9'" in await refused(
            world, Forbidden, other
        )
        assert world.ask("SELECT 1 FROM hosts WHERE name = 'node9'") == []

    @pytest_twisted.ensureDeferred
    async def test_two_machines_with_one_token(self, world: World) -> None:
        secret = token(world)
        outcomes: list[object] = []
        tries = [later(enrol(world, secret, machine)) for machine in (MACHINE, ANOTHER)]
        for one in tries:
            one.addCallbacks(outcomes.append, lambda failure: failure.trap(Forbidden, Conflict))
        await gatherResults(tries)
        assert len(outcomes) == 1

    @pytest_twisted.ensureDeferred
    async def test_two_machines_with_one_name(self, world: World) -> None:
        outcomes: list[object] = []
        tries = [later(enrol(world, token(world), machine)) for machine in (MACHINE, ANOTHER)]
        for one in tries:
            one.addCallbacks(outcomes.append, lambda failure: failure.trap(Conflict))
        await gatherResults(tries)
        assert len(outcomes) == 1

    @pytest_twisted.ensureDeferred
    async def test_without_one_the_role_of_nodes_makes_no_node(self, world: World) -> None:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            await world.pool.execute("INSERT INTO hosts (name, address) VALUES ('x', 'y')")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            await world.pool.execute("UPDATE hosts SET identity_hash = NULL")
        for sql in ("SELECT * FROM host_tokens", "INSERT INTO host_tokens (token_hash, expires_at) VALUES ('', now())"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                await world.pool.fetch(sql)

    @pytest_twisted.ensureDeferred
    async def test_the_role_of_the_api_makes_them_and_cannot_read_them(self, world: World, database: str) -> None:
        dsn = psycopg2.extensions.make_dsn(database, user="qvd_api")
        pool = Pool(reactor, dsn, size=1, deadline=10.0, rng=Random(1))
        await pool.start()
        try:
            made = await Enrolments(pool).issue_token("node9", 1.0, "carol through the API")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                await pool.fetch("SELECT token_hash FROM host_tokens")
        finally:
            await pool.stop()
        await enrol(world, made)

    @pytest.mark.parametrize("hours", [0.0, -1.0, 10000.0, float("nan")])
    def test_times_that_make_no_sense(self, hours: float) -> None:
        with pytest.raises(InvalidRequest):
            new_token(None, hours, "carol")

    @pytest_twisted.ensureDeferred
    async def test_old_ones_are_forgotten(self, world: World) -> None:
        token(world)
        world.ask("UPDATE host_tokens SET expires_at = now() - interval '40 days'")
        token(world)
        assert len(world.ask("SELECT 1 FROM host_tokens")) == 1


class TestNames:
    @pytest_twisted.ensureDeferred
    async def test_one_that_is_taken_takes_a_token_of_its_own(self, world: World) -> None:
        await enrol(world, token(world))
        text = await refused(world, Conflict, token(world), ANOTHER)
        assert "There is a node 'node9' already" in text and "--name node9" in text

    @pytest_twisted.ensureDeferred
    async def test_a_machine_that_was_installed_again(self, world: World) -> None:
        """It has lost its identity with its disk; what it ran is released at its registration."""
        host_id = await enrol(world, token(world))
        old = hosts_of(world, MACHINE)
        lease = await old.register("node9", "192.0.2.9", 30.0)
        await old.set_state(lease, HostState.RUNNING)
        named = token(world, "node9")
        assert "is alive: stop it" in await refused(world, Conflict, named, ANOTHER)
        world.ask("UPDATE host_runtimes SET lease_until = now() - interval '5 seconds' WHERE host_id = %s", host_id)
        assert "is alive" in await refused(world, Conflict, named, ANOTHER), "not yet: its VMs may not be dead"
        world.ask("UPDATE host_runtimes SET lease_until = now() - interval '11 seconds' WHERE host_id = %s", host_id)
        assert await enrol(world, named, ANOTHER) == host_id
        with pytest.raises(Forbidden, match="Another machine is enrolled as 'node9'"):
            await old.register("node9", "192.0.2.9", 30.0)
        new = await hosts_of(world, ANOTHER).register("node9", "192.0.2.10", 30.0)
        assert (new.host_id, new.epoch) == (host_id, lease.epoch + 2)

    @pytest_twisted.ensureDeferred
    async def test_one_that_was_decommissioned_is_free_and_its_history_stays(self, world: World) -> None:
        host_id = await enrol(world, token(world))
        nodes = Nodes(world.pool)
        await nodes.block("node9", "carol")
        await nodes.drain("node9", Drain.STOP, "carol")
        await nodes.decommission("node9", "carol")
        assert await enrol(world, token(world), ANOTHER) == host_id
        (node,) = [node for node in await nodes.summaries() if node.name == "node9"]
        assert (node.address, node.state, node.blocked, node.drain) == ("192.0.2.10", HostState.STOPPED, False, None)
        assert len(world.events("host.enrolled")) == 2
        await hosts_of(world, ANOTHER).register("node9", "192.0.2.10", 30.0)

    @pytest_twisted.ensureDeferred
    async def test_a_machine_without_an_identity_is_not_the_enrolled_one(self, world: World) -> None:
        """Two daemons of one name would take each other's lease and run each other's VMs."""
        await enrol(world, token(world))
        with pytest.raises(Forbidden, match="Another machine is enrolled"):
            await world.hosts.register("node9", "192.0.2.9", 30.0)
        # Where the row asks for none, whatever a machine has is good.
        await hosts_of(world, MACHINE).register("node1", "192.0.2.9", 30.0)


def test_the_command(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["enrolment-token", "--hours", "2", "--name", "node9", "--dsn", database]) == 0
    shown = capsys.readouterr()
    made = Secret(shown.out.strip())
    assert "\n" not in shown.out.strip() and "Good once within 2 hours for the node node9" in shown.err
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, expires_at - created_at FROM host_tokens WHERE token_hash = %s", (digest(made),))
        found = cursor.fetchone()
        assert found is not None and (found[0], found[1].total_seconds()) == ("node9", 7200)
    connection.close()
    assert cli.main(["enrolment-token", "--hours", "0", "--dsn", database]) == 1
    assert "good for up to 720 hours" in capsys.readouterr().err
    assert issue_token(database, None, 1.0, "carol") != made
