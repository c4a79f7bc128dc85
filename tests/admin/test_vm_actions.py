"""What is done with VMs, in which state, and by whom."""

from __future__ import annotations

import pytest

from qvd.admin.resources.vmverbs import DISCONNECTED, VERBS
from tests.admin.desks import GIB, Desks
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

BODIES = {"message": {"text": "Good evening"}}
STATES = ("stopped", "starting", "running", "stopping", "zombie")


async def act(api: ApiWorld, desks: Desks, verb: str, body: object = None) -> Reply:
    return await api.call(api.anna, "POST", f"/vms/{desks.vm}/{verb}", body)


@asynchronous
async def test_start(api: ApiWorld, desks: Desks) -> None:
    reply = await act(api, desks, "start")
    assert (reply.status, reply.body["state"], reply.body["host_id"]) == (202, "stopped", desks.host)
    assert (reply.body["desired_state"], reply.body["order_pending"]) == ("running", True)
    again = await act(api, desks, "start")
    assert (again.status, desks.row()["generation"]) == (202, 1), "it is ordered already"
    (event,) = api.ask("SELECT cause FROM events WHERE kind = 'vm.ordered'")
    assert event["cause"] == "vm.start by anna, request test"


@pytest.mark.parametrize("state", STATES[1:])
@asynchronous
async def test_a_start_of_one_that_is_not_stopped(api: ApiWorld, desks: Desks, state: str) -> None:
    desks.be(state)
    reply = await act(api, desks, "start")
    assert (reply.status, reply.problem, reply.body["code"]) == (409, "invalid-vm-state", 5130)
    assert reply.body["detail"].endswith(f"this one is {state}")
    (row,) = api.trail()
    assert (row["outcome"], row["problem"], row["object_name"]) == ("failed", "invalid-vm-state", "alice-1")
    assert row["object_tenant_id"] == api.acme


@asynchronous
async def test_a_start_that_no_node_takes_says_why_and_keeps_it(api: ApiWorld, desks: Desks) -> None:
    api.ask("UPDATE host_runtimes SET usable_ram = %s", GIB // 2)
    reply = await act(api, desks, "start")
    assert (reply.status, reply.problem, reply.body["code"]) == (503, "no-host-available", 5140)
    assert "node1" in reply.body["detail"] and reply.headers["Retry-After"] == "30"
    assert (desks.row()["desired_state"], desks.row()["last_error"]) == ("stopped", reply.body["detail"])
    assert desks.row()["placement"]["nodes"][0]["name"] == "node1"
    assert [row["outcome"] for row in api.trail()] == ["failed"]


@asynchronous
async def test_one_that_fails_again_and_again_waits_unless_it_is_reset(api: ApiWorld, desks: Desks) -> None:
    api.ask("UPDATE vm_runtimes SET failures = 4, retry_at = now() + interval '1 hour'")
    reply = await act(api, desks, "start")
    assert (reply.status, reply.problem) == (503, "unavailable")
    assert (await act(api, desks, "reset")).body["failures"] == 0
    assert (await act(api, desks, "start")).status == 202


@pytest.mark.parametrize("state", ["starting", "running"])
@asynchronous
async def test_stop(api: ApiWorld, desks: Desks, state: str) -> None:
    desks.be(state)
    reply = await act(api, desks, "stop")
    assert (reply.status, reply.body["state"], reply.body["desired_state"]) == (202, state, "stopped")
    row = desks.row()
    assert (row["generation"], row["acked_generation"], row["forced"]) == (2, 1, False)


@asynchronous
async def test_a_stop_withdraws_a_start(api: ApiWorld, desks: Desks) -> None:
    await act(api, desks, "start")
    assert (await act(api, desks, "stop")).body["desired_state"] == "stopped"


@pytest.mark.parametrize("state", ["stopped", "stopping", "zombie"])
@asynchronous
async def test_a_stop_of_one_that_does_not_run(api: ApiWorld, desks: Desks, state: str) -> None:
    desks.be(state)
    reply = await act(api, desks, "stop")
    assert (reply.status, reply.problem, reply.body["code"]) == (409, "invalid-vm-state", 5120)
    assert reply.body["detail"] == f"The VM is {state} already"


@asynchronous
async def test_force_has_a_permission_of_its_own(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    meek = api.with_only(api.anna, "vm.update.state")
    reply = await api.call(meek, "POST", f"/vms/{desks.vm}/stop", {"force": True})
    assert (reply.status, reply.problem, reply.body["acl"]) == (403, "forbidden-attribute", "vm.update.force-stop")
    assert desks.row()["desired_state"] == "running"
    assert (await act(api, desks, "stop", {"force": True})).status == 202
    assert (desks.row()["desired_state"], desks.row()["forced"]) == ("stopped", True)


@pytest.mark.parametrize("state", ["stopping", "zombie"])
@asynchronous
async def test_a_stop_that_hangs_can_be_forced(api: ApiWorld, desks: Desks, state: str) -> None:
    desks.be(state)
    assert (await act(api, desks, "stop", {"force": True})).status == 202
    row = desks.row()
    assert row["forced"] and row["generation"] > row["acked_generation"]


@asynchronous
async def test_restart(api: ApiWorld, desks: Desks) -> None:
    for state in ("stopped", "stopping", "zombie"):
        desks.be(state)
        reply = await act(api, desks, "restart")
        assert (reply.status, reply.problem, reply.body["code"]) == (409, "invalid-vm-state", 5120)
    desks.be("running")
    reply = await act(api, desks, "restart", {"when": "now"})
    assert (reply.status, reply.body["desired_state"], reply.body["restarting"]) == (202, "stopped", True)
    assert (await act(api, desks, "restart", {"when": "tomorrow"})).problem == "invalid-value"
    api.ask("UPDATE vm_runtimes SET vm_state = 'stopped', host_id = NULL, acked_generation = generation")
    assert (desks.row()["desired_state"], desks.row()["restart"]) == ("running", False)


@asynchronous
async def test_a_stop_after_a_restart_is_a_stop(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    await act(api, desks, "restart")
    assert (await act(api, desks, "stop")).body["restarting"] is False


@asynchronous
async def test_disconnect(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    nobody = await act(api, desks, "disconnect")
    assert (nobody.status, nobody.problem, nobody.body["code"]) == (409, "invalid-user-state", 5110)
    session = desks.connect()
    reply = await act(api, desks, "disconnect")
    assert (reply.status, reply.body["state"]) == (202, "running")
    assert api.ask("SELECT id::text, end_wanted FROM sessions") == [{"id": session, "end_wanted": DISCONNECTED}]
    (event,) = api.ask("SELECT cause FROM events WHERE kind = 'session.end_wanted'")
    assert event["cause"] == "vm.disconnect by anna, request test"
    api.ask("UPDATE sessions SET state = 'disconnected', ended_at = now()")
    assert (await act(api, desks, "disconnect")).problem == "invalid-user-state"


@asynchronous
async def test_block(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    assert (await act(api, desks, "block")).body["blocked"] is True
    assert desks.row()["desired_state"] == "running", "who is connected stays"
    assert (await act(api, desks, "unblock")).body["blocked"] is False
    assert [(row["action"], row["after"]["blocked"]) for row in api.trail()] == [
        ("vm.block", True),
        ("vm.unblock", False),
    ]


@pytest.mark.parametrize("verb", [*VERBS, "block", "unblock"])
@asynchronous
async def test_each_needs_its_permission(api: ApiWorld, desks: Desks, verb: str) -> None:
    others = ["vm.see-main.", "vm.update.name", "vm.delete.", "vm.create."]
    acls = VERBS[verb].acls if verb in VERBS else ("vm.update.block",)
    for each in {*acls, "vm.update.state", "vm.update.block", "vm.update.disconnect-user", "vm.update.force-stop"}:
        caller = api.with_only(api.anna, *others, each)
        reply = await api.call(caller, "POST", f"/vms/{desks.vm}/{verb}", BODIES.get(verb))
        if each in acls:
            assert reply.status != 403
        else:
            assert (reply.status, reply.body["acl"]) == (403, ", ".join(acls))


@asynchronous
async def test_what_may_be_done_now_is_told(api: ApiWorld, desks: Desks) -> None:
    async def now(*acls: str) -> set[str]:
        caller = api.with_only(api.anna, "vm.see-main.", *acls) if acls else api.anna
        return set((await api.call(caller, "GET", f"/vms/{desks.vm}?include=actions")).body["_actions"])

    assert await now() == {"update", "delete", "start", "block"}
    desks.be("running")
    desks.connect()
    assert await now() == {"update", "stop", "restart", "disconnect", "message", "block", "force-stop"}
    assert await now("vm.update.state") == {"stop", "restart"}
    assert await now("vm.update.disconnect-user") == {"disconnect"}
    assert await now("host.update.stop-vms") == {"stop"}
    desks.be("stopping")
    assert await now("vm.update.state") == set()
    assert await now("vm.update.state", "vm.update.force-stop") == {"force-stop"}
    api.ask("UPDATE vm_runtimes SET blocked = true, failures = 1")
    assert await now("vm.update.block") == {"update", "unblock"}
