"""Every statement of the stores, on a real PostgreSQL, as the role that nodes have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from qvd.db.sessions import TAKEN
from qvd.db.users import MOST_TOKENS
from qvd.model.errors import NotFound, OwnershipLost, SessionLost, Unavailable
from qvd.model.ids import Epoch, VMId
from qvd.model.placement_words import describe
from qvd.model.records import Capacity, Change, Desired, Guest, HostState, Lease, TokenTerms, User
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.contract.stores import GIB, SECRET, World

TERMS = TokenTerms(None, multi_use=False, seconds=60)
GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


def later(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


class TestUsers:
    @pytest_twisted.ensureDeferred
    async def test_names_match_without_regard_to_case(self, world: World) -> None:
        user = await world.users.find(" ACME ", "alice")
        assert user is not None and user.user_id == world.user and user.login == "Alice" and not user.blocked
        assert await world.users.find("acme", "bob") is None
        assert await world.users.find("other", "alice") is None

    @pytest_twisted.ensureDeferred
    async def test_blocked_is_user_or_tenant_or_gone(self, world: World) -> None:
        assert not await world.users.is_blocked(world.user)
        world.ask("UPDATE tenants SET blocked = true")
        assert await world.users.is_blocked(world.user)
        found = await world.users.find("acme", "alice")
        assert found is not None and found.blocked
        world.ask("UPDATE tenants SET blocked = false")
        world.ask("UPDATE users SET blocked = true")
        assert await world.users.is_blocked(world.user)

    @pytest_twisted.ensureDeferred
    async def test_a_rehash_does_not_undo_a_change(self, world: World) -> None:
        world.ask("UPDATE users SET password = 'changed meanwhile'")
        await world.users.rehash(world.user, Secret("as it was"), "new hash")
        assert world.ask("SELECT password FROM users")[0]["password"] == "changed meanwhile"
        await world.users.rehash(world.user, Secret("changed meanwhile"), "new hash")
        assert world.ask("SELECT password FROM users")[0]["password"] == "new hash"

    @pytest_twisted.ensureDeferred
    async def test_a_single_use_token_is_good_for_one(self, world: World) -> None:
        self.token(world, b"one", vm_id=world.vm_id)
        uses = await gatherResults([later(world.users.redeem(b"one")) for _ in range(4)])
        accepted = [use for use in uses if use is not None]
        assert len(accepted) == 1
        assert accepted[0].vm_id == world.vm_id and accepted[0].user.user_id == world.user

    @pytest_twisted.ensureDeferred
    async def test_other_tokens(self, world: World) -> None:
        self.token(world, b"many", multi_use=True)
        self.token(world, b"late", age="-1 second")
        assert await world.users.redeem(b"many") is not None
        assert await world.users.redeem(b"many") is not None
        assert await world.users.redeem(b"late") is None
        assert await world.users.redeem(b"unknown") is None

    @pytest_twisted.ensureDeferred
    async def test_a_new_token_is_good_for_what_it_was_made_for(self, world: World) -> None:
        user = await self.alice(world)
        assert await world.users.add_token(b"bound", user, TokenTerms(world.vm_id, multi_use=False, seconds=60))
        assert await world.users.add_token(b"free", user, TokenTerms(None, multi_use=True, seconds=86400))
        assert await world.users.add_token(b"short", user, TokenTerms(None, multi_use=True, seconds=0))
        use = await world.users.redeem(b"bound")
        assert use is not None and (use.vm_id, use.user) == (world.vm_id, user)
        assert await world.users.redeem(b"bound") is None
        for _ in range(2):
            use = await world.users.redeem(b"free")
            assert use is not None and use.vm_id is None
        assert await world.users.redeem(b"short") is None
        (row,) = world.ask("SELECT expires_at - now() AS rest FROM user_tokens WHERE token_hash = 'free'")
        assert 86300 < row["rest"].total_seconds() <= 86400

    @pytest_twisted.ensureDeferred
    async def test_a_new_token_takes_the_place_of_those_that_are_good_for_nothing(self, world: World) -> None:
        for name in (b"used", b"good"):
            self.token(world, name)
        self.token(world, b"many", multi_use=True)
        self.token(world, b"late", multi_use=True, age="-1 second")
        for name in (b"used", b"many"):
            assert await world.users.redeem(name) is not None
        assert await world.users.add_token(b"new", await self.alice(world), TERMS)
        kept = {bytes(row["token_hash"]) for row in world.ask("SELECT token_hash FROM user_tokens")}
        assert kept == {b"good", b"many", b"new"}

    @pytest_twisted.ensureDeferred
    async def test_not_more_than_so_many_tokens(self, world: World) -> None:
        user = await self.alice(world)
        world.ask(
            "INSERT INTO user_tokens (token_hash, tenant_id, user_id, expires_at)"
            " SELECT n::text::bytea, %s, %s, now() + '1 hour' FROM generate_series(2, %s) n",
            world.tenant,
            world.user,
            MOST_TOKENS,
        )
        assert await world.users.add_token(b"last", user, TERMS)
        assert not await world.users.add_token(b"one more", user, TERMS)
        assert await world.users.redeem(b"last") is not None
        assert await world.users.add_token(b"one more", user, TERMS)

    async def alice(self, world: World) -> User:
        user = await world.users.find("acme", "alice")
        assert user is not None
        return user

    def token(
        self, world: World, token: bytes, multi_use: bool = False, age: str = "1 hour", vm_id: VMId | None = None
    ) -> None:
        world.ask(
            "INSERT INTO user_tokens (token_hash, tenant_id, user_id, vm_id, multi_use, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, now() + %s::interval)",
            token,
            world.tenant,
            world.user,
            vm_id,
            multi_use,
            age,
        )


class TestOrders:
    @pytest_twisted.ensureDeferred
    async def test_a_list_has_names_and_states(self, world: World) -> None:
        world.new_vm("another")
        listed = await world.vms.list_for_user(world.user, False)
        assert [(vm.name, vm.state, vm.blocked) for vm in listed] == [
            ("another", VMState.STOPPED, False),
            ("one", VMState.STOPPED, False),
        ]
        assert await world.vms.list_for_user(world.user, True) == []

    @pytest_twisted.ensureDeferred
    async def test_a_start_places_and_orders_once(self, world: World) -> None:
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        await world.vms.order_start(world.vm_id, "alice again")
        row = world.row()
        assert (row["host_id"], row["desired_state"], row["generation"]) == (lease.host_id, "running", 1)
        (event,) = world.events("vm.ordered")
        assert event["cause"] == "alice"
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [world.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_a_placement_is_stored_with_its_inputs(self, world: World) -> None:
        world.ask("INSERT INTO hosts (name, address) VALUES ('node2', '127.0.0.2')")
        world.ask(
            "INSERT INTO host_runtimes (host_id) SELECT id FROM hosts WHERE name = 'node2' ON CONFLICT DO NOTHING"
        )
        await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        explanation = await world.vms.explain(world.vm_id)
        assert explanation is not None
        assert explanation.host == "node1"
        assert explanation.placement is not None
        assert describe(explanation.placement) == [
            "node1: score 2.25, the highest: taken (8192 of 8192 MiB not reserved, 8192 MiB left, 1.5 of 2 cores idle)",
            "node2: rejected: it is stopped (0 of 0 MiB not reserved, 0 MiB left, 0.0 of 0 cores idle)",
        ]

    @pytest_twisted.ensureDeferred
    async def test_a_vm_that_was_never_placed(self, world: World) -> None:
        explanation = await world.vms.explain(world.vm_id)
        assert explanation is not None
        assert (explanation.host, explanation.placement) == (None, None)
        assert await world.vms.explain(VMId(4711)) is None

    @pytest_twisted.ensureDeferred
    async def test_one_that_goes_down_by_itself_is_started_again_for_the_next_client(self, world: World) -> None:
        lease = await world.running_host()
        await world.claimed(lease)
        dying = Change(VMState.STOPPING, "killing", "Killing", error="The guest does not answer")
        await world.ownership.save(lease, world.vm_id, VMState.STARTING, dying)
        await world.vms.order_start(world.vm_id, "alice")
        await world.vms.order_start(world.vm_id, "alice again")
        assert world.row()["generation"] == 2
        await world.ownership.release(lease, world.vm_id, None)
        row = world.row()
        assert (row["vm_state"], row["desired_state"], row["host_id"]) == ("stopped", "running", lease.host_id)
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [world.vm_id]

    @pytest_twisted.ensureDeferred
    async def test_no_node_is_explained(self, world: World) -> None:
        with pytest.raises(Unavailable, match="node1 is stopped"):
            await world.vms.order_start(world.vm_id, "alice")
        await world.running_host(memory=GIB // 2)
        with pytest.raises(Unavailable, match="node1 has 512 MiB free, 1024 MiB are needed"):
            await world.vms.order_start(world.vm_id, "alice")
        world.ask("UPDATE host_runtimes SET lease_until = now() - interval '1 second'")
        with pytest.raises(Unavailable, match="no sign of life"):
            await world.vms.order_start(world.vm_id, "alice")
        assert world.row()["generation"] == 0
        explanation = await world.vms.explain(world.vm_id)
        assert explanation is not None and explanation.placement is not None
        assert "has shown no sign of life" in describe(explanation.placement)[0]
        assert "no sign of life" in (explanation.vm.last_error or "")

    @pytest_twisted.ensureDeferred
    async def test_starts_at_one_moment_do_not_overbook(self, world: World) -> None:
        await world.running_host(memory=3 * GIB)
        vms = [world.vm_id, *(world.new_vm(f"vm {number}") for number in range(7))]

        async def start(vm_id: VMId) -> bool:
            try:
                await world.vms.order_start(vm_id, "storm")
            except Unavailable:
                return False
            return True

        assert sum(await gatherResults([later(start(vm_id)) for vm_id in vms])) == 3

    @pytest_twisted.ensureDeferred
    async def test_unknown_vm(self, world: World) -> None:
        assert await world.vms.get(VMId(4711)) is None
        with pytest.raises(NotFound):
            await world.vms.order_start(VMId(4711), "alice")
        with pytest.raises(NotFound):
            await world.vms.order_stop(VMId(4711), "alice")


class TestOwnership:
    @pytest_twisted.ensureDeferred
    async def test_a_stop_that_was_taken_up_and_not_carried_out_is_pending(self, world: World) -> None:
        """A former daemon has acknowledged it, after its successor had looked."""
        lease = await world.running_host()
        await world.claimed(lease)
        await world.vms.order_stop(world.vm_id, "test")
        (vm,) = await world.ownership.pending(lease, [world.vm_id])
        assert await world.ownership.acknowledge(lease, world.vm_id, vm.generation)
        assert [vm.vm_id for vm in await world.ownership.pending(lease, [world.vm_id])] == [world.vm_id]
        change = Change(VMState.STOPPING, "powering off", "Powering off")
        await world.ownership.save(lease, world.vm_id, VMState.STARTING, change)
        assert await world.ownership.pending(lease, [world.vm_id]) == [], "it goes down"

    @pytest_twisted.ensureDeferred
    async def test_from_claim_to_release(self, world: World) -> None:
        lease = await world.running_host()
        spec = await world.claimed(lease)
        assert (spec.image, spec.memory, spec.login) == ("desk", GIB, "alice")
        assert spec.home == f"{world.tenant}/{world.vm_id}"
        assert await world.ownership.claim_start(lease, world.vm_id, SECRET) is None
        assert await world.ownership.pending(lease, [world.vm_id]) == []
        assert [vm.vm_id for vm in await world.ownership.pending(lease, ())] == [world.vm_id], "nobody carries it"
        await world.ownership.save(
            lease, world.vm_id, VMState.STARTING, Change(VMState.RUNNING, "running", "Running", GUEST)
        )
        vm = await world.vms.get(world.vm_id)
        assert vm is not None and vm.guest == GUEST and vm.state is VMState.RUNNING and vm.epoch == lease.epoch
        await world.ownership.seen(lease, [world.vm_id])
        assert world.row()["vma_ok_ts"] is not None
        await world.ownership.release(lease, world.vm_id, "it broke")
        row = world.row()
        assert (row["vm_state"], row["desired_state"], row["last_error"]) == ("stopped", "stopped", "it broke")
        assert (row["host_id"], row["vm_secret"], row["vm_address"]) == (None, None, None)
        history = world.ask("SELECT after->>'vm_state' AS state FROM events WHERE left(kind, 3) = 'vm.' ORDER BY id")
        assert [event["state"] for event in history] == ["stopped", "starting", "running", "stopped"]

    @pytest_twisted.ensureDeferred
    async def test_writes_of_another_epoch_change_nothing(self, world: World) -> None:
        old = await world.running_host()
        await world.claimed(old)
        await world.running_host()
        stale = Lease(old.host_id, Epoch(old.epoch - 1))
        change = Change(VMState.RUNNING, "running", "", GUEST)
        with pytest.raises(OwnershipLost):
            await world.ownership.save(stale, world.vm_id, VMState.STARTING, change)
        with pytest.raises(OwnershipLost):
            await world.ownership.save(old, world.vm_id, VMState.RUNNING, change)
        with pytest.raises(OwnershipLost):
            await world.ownership.release(stale, world.vm_id, None)
        assert world.row()["vm_state"] == "starting"

    @pytest_twisted.ensureDeferred
    async def test_a_write_whose_answer_was_lost_can_be_repeated(self, world: World) -> None:
        lease = await world.running_host()
        await world.claimed(lease)
        change = Change(VMState.RUNNING, "running", "Running", GUEST)
        await world.ownership.save(lease, world.vm_id, VMState.STARTING, change)
        await world.ownership.save(lease, world.vm_id, VMState.STARTING, change)
        assert world.row()["vm_state"] == "running"
        assert len(world.events("vm.running")) == 1

    @pytest_twisted.ensureDeferred
    async def test_a_claim_needs_a_live_lease_of_this_epoch(self, world: World) -> None:
        old = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        new = await world.running_host()
        assert await world.ownership.claim_start(old, world.vm_id, SECRET) is None
        world.ask("UPDATE host_runtimes SET lease_until = now() - interval '1 second'")
        assert await world.ownership.claim_start(new, world.vm_id, SECRET) is None
        world.ask("UPDATE host_runtimes SET lease_until = now() + interval '1 minute'")
        assert await world.ownership.claim_start(new, world.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_adoption_moves_the_row_to_the_new_epoch(self, world: World) -> None:
        old = await world.running_host()
        await world.claimed(old)
        new = await world.running_host()
        (vm,) = await world.ownership.bound(new)
        await world.ownership.adopt(new, vm)
        assert world.row()["host_epoch"] == new.epoch
        with pytest.raises(OwnershipLost):
            await world.ownership.adopt(old, vm)

    @pytest_twisted.ensureDeferred
    async def test_a_start_ordered_while_stopping_stays_with_the_node(self, world: World) -> None:
        lease = await world.running_host()
        await world.claimed(lease)
        await world.vms.order_stop(world.vm_id, "alice")
        (vm,) = await world.ownership.pending(lease, ())
        assert vm.desired is Desired.STOPPED
        assert await world.ownership.acknowledge(lease, world.vm_id, vm.generation)
        await world.vms.order_start(world.vm_id, "alice again")
        await world.ownership.release(lease, world.vm_id, None)
        row = world.row()
        assert (row["vm_state"], row["desired_state"], row["host_id"]) == ("stopped", "running", lease.host_id)
        assert await world.ownership.claim_start(lease, world.vm_id, SECRET) is not None

    @pytest_twisted.ensureDeferred
    async def test_a_stop_not_taken_up_ends_with_the_run(self, world: World) -> None:
        lease = await world.running_host()
        await world.claimed(lease)
        await world.vms.order_stop(world.vm_id, "alice")
        await world.ownership.release(lease, world.vm_id, "it ended by itself first")
        assert world.row()["host_id"] is None
        assert await world.ownership.pending(lease, ()) == []

    @pytest_twisted.ensureDeferred
    async def test_a_missing_image_is_refused_with_a_reason(self, world: World) -> None:
        lease = await world.running_host()
        await world.vms.order_start(world.vm_id, "alice")
        world.ask("UPDATE dis SET blocked = true")
        (vm,) = await world.ownership.pending(lease, ())
        with pytest.raises(NotFound, match=r"'1' of 'desk'.* is blocked") as caught:
            await world.ownership.claim_start(lease, world.vm_id, SECRET)
        await world.ownership.refuse(lease, world.vm_id, vm.generation, caught.value.text)
        row = world.row()
        assert (row["desired_state"], row["host_id"]) == ("stopped", None) and "default" in row["last_error"]

    @pytest_twisted.ensureDeferred
    async def test_progress_of_a_past_phase_is_dropped(self, world: World) -> None:
        lease = await world.running_host()
        await world.claimed(lease)
        await world.ownership.progress(lease, world.vm_id, "preparing", "unpacking image, 40 %")
        assert world.row()["detail"] == "unpacking image, 40 %"
        await world.ownership.progress(lease, world.vm_id, "booting", "too early")
        assert world.row()["detail"] == "unpacking image, 40 %"


class TestSessions:
    @pytest_twisted.ensureDeferred
    async def test_the_newest_has_it(self, world: World) -> None:
        lease = await world.running_host()
        first, second = world.session(lease), world.session(lease)
        assert await world.sessions.claim(first) is None
        await world.sessions.connected(first.session_id)
        assert await world.sessions.claim(second) == first.session_id
        assert not await world.sessions.is_current(first.session_id)
        assert await world.sessions.unended(lease.host_id) == {first.session_id: TAKEN, second.session_id: None}
        assert not await world.sessions.has_ended(first.session_id)
        await world.sessions.end(first.session_id, "taken over")
        await world.sessions.end(first.session_id, "a second reason")
        assert await world.sessions.has_ended(first.session_id)
        assert world.row()["session_id"] == second.session_id
        assert await world.sessions.unended(lease.host_id) == {second.session_id: None}
        (ended,) = world.ask("SELECT end_reason FROM sessions WHERE id = %s", first.session_id)
        assert ended["end_reason"] == "taken over"
        await world.sessions.end(second.session_id, "gone")
        assert world.row()["session_id"] is None
        assert len(world.events("session.disconnected")) == 2

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "loss", ["lease_until = now() - interval '1 second'", "state = 'lost'", "epoch = epoch + 1"]
    )
    async def test_a_node_without_a_lease_throws_nobody_out(self, world: World, loss: str) -> None:
        lease = await world.running_host()
        first = world.session(lease)
        await world.sessions.claim(first)
        world.ask(f"UPDATE host_runtimes SET {loss}")
        with pytest.raises(Unavailable):
            await world.sessions.claim(world.session(lease))
        assert world.row()["session_id"] == first.session_id

    @pytest_twisted.ensureDeferred
    async def test_a_superseded_session_cannot_connect(self, world: World) -> None:
        lease = await world.running_host()
        first, second = world.session(lease), world.session(lease)
        await world.sessions.claim(first)
        await world.sessions.claim(second)
        with pytest.raises(SessionLost):
            await world.sessions.connected(first.session_id)
        await world.sessions.connected(second.session_id)

    @pytest_twisted.ensureDeferred
    async def test_claims_at_one_moment_leave_one_current(self, world: World) -> None:
        lease = await world.running_host()
        specs = [world.session(lease) for _ in range(6)]
        olders = await gatherResults([later(world.sessions.claim(spec)) for spec in specs])
        assert olders.count(None) == 1
        assert len(set(olders)) == 6
        assert sorted((await world.sessions.unended(lease.host_id)).values(), key=str) == [TAKEN] * 5 + [None]


class TestHosts:
    @pytest_twisted.ensureDeferred
    async def test_each_registration_is_an_epoch(self, world: World) -> None:
        first = await world.running_host()
        second = await world.running_host()
        assert second.epoch == first.epoch + 1
        with pytest.raises(OwnershipLost):
            await world.hosts.renew(first, 30.0, Capacity(GIB, 1.0, GIB, 1.0))
        with pytest.raises(OwnershipLost):
            await world.hosts.set_state(first, HostState.STOPPED)
        status = await world.hosts.renew(second, 30.0, Capacity(GIB, 1.0, GIB, 1.0))
        assert status.state is HostState.RUNNING and not status.blocked
        with pytest.raises(NotFound, match="nodename"):
            await world.hosts.register("unknown", "127.0.0.1", 30.0)

    @pytest_twisted.ensureDeferred
    async def test_a_lease_that_is_over_cannot_be_renewed(self, world: World) -> None:
        lease = await world.running_host()
        world.ask("UPDATE host_runtimes SET lease_until = now() - interval '1 second'")
        with pytest.raises(OwnershipLost):
            await world.hosts.renew(lease, 30.0, Capacity(GIB, 1.0, GIB, 1.0))

    @pytest_twisted.ensureDeferred
    async def test_a_lost_host_cannot_renew(self, world: World) -> None:
        lease = await world.running_host()
        world.ask("UPDATE host_runtimes SET state = 'lost'")
        with pytest.raises(OwnershipLost):
            await world.hosts.renew(lease, 30.0, Capacity(GIB, 1.0, GIB, 1.0))

    @pytest_twisted.ensureDeferred
    async def test_sessions_of_older_epochs_are_ended(self, world: World) -> None:
        old = await world.running_host()
        await world.sessions.claim(world.session(old))
        new = await world.running_host()
        current = world.session(new, world.new_vm("other"))
        await world.sessions.claim(current)
        assert await world.hosts.end_stale_sessions(new, "restarted") == 1
        assert world.row()["session_id"] is None
        assert not await world.sessions.has_ended(current.session_id)


class TestRules:
    """What the database itself refuses, whoever asks."""

    def refused(self, world: World, sql: str, *values: object) -> None:
        with pytest.raises(psycopg2.Error):
            world.ask(sql, *values)

    @pytest_twisted.ensureDeferred
    async def test_no_row_points_into_another_tenant(self, world: World) -> None:
        other = world.insert("tenants (name) VALUES ('other')")
        stranger = world.insert("users (tenant_id, login) VALUES (%s, 'bob')", other)
        make = "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'x')"
        self.refused(world, make, world.tenant, stranger, world.osf)
        self.refused(world, make, other, stranger, world.osf)
        self.refused(
            world,
            "INSERT INTO user_tokens (token_hash, tenant_id, user_id, vm_id, expires_at)"
            " VALUES ('x', %s, %s, %s, now())",
            other,
            stranger,
            world.vm_id,
        )

    @pytest_twisted.ensureDeferred
    async def test_a_tag_is_on_one_image_of_an_osf(self, world: World) -> None:
        second = world.insert(
            "dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'desk2', '2')", world.tenant, world.osf
        )
        self.refused(world, "INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", world.osf, second)

    @pytest_twisted.ensureDeferred
    async def test_nodes_cannot_rewrite_history_or_define_things(self, world: World) -> None:
        for sql in (
            "DELETE FROM events",
            "UPDATE events SET cause = 'x'",
            "INSERT INTO users (tenant_id, login) VALUES (1, 'x')",
            "UPDATE users SET blocked = false",
            "UPDATE vms SET name = 'x'",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                await world.pool.execute(sql)

    @pytest_twisted.ensureDeferred
    async def test_a_running_row_has_host_and_address(self, world: World) -> None:
        self.refused(world, "UPDATE vm_runtimes SET vm_state = 'running'")
        self.refused(world, "UPDATE vm_runtimes SET vm_state = 'melting'")
