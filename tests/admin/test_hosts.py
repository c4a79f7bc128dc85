"""Nodes: read and commanded by administrators over all tenants, by nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from attrs import evolve

from qvd.db.enrolment import digest
from qvd.model.secret import Secret
from tests.admin.belongings import Belongings, a_node
from tests.admin.hands import Hands
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, until


@asynchronous_fixture
async def hands(api: ApiWorld) -> AsyncIterator[Hands]:
    made = Hands(api)
    yield made
    await made.stop()


@asynchronous
async def test_make_read_change_delete(api: ApiWorld) -> None:
    body = {"name": "node7", "address": "10.0.0.7", "blocked": True}
    made = await api.call(api.boss, "POST", "/hosts", body)
    assert made.status == 201, made.body
    assert made.body["created_by"] == "boss" and made.body["state"] == "stopped" and made.body["blocked"] is True
    path = f"/hosts/{made.body['id']}"
    changed = await api.call(api.boss, "PATCH", path, {"description": "old", "name": "node8"})
    assert (changed.body["name"], changed.body["description"]) == ("node8", "old")
    assert (await api.call(api.boss, "POST", "/hosts", body | {"name": "node8"})).problem == "already-exists"
    assert (await api.call(api.boss, "DELETE", path)).status == 204


@asynchronous
async def test_what_a_node_tells(api: ApiWorld) -> None:
    host_id = a_node(api)
    acme = Belongings(api, api.acme, 3)
    acme.run_on(host_id, *acme.vms[:2])
    read = (await api.call(api.boss, "GET", f"/hosts/{host_id}?include=actions")).body
    assert (read["number_of_vms"], read["number_of_vms_running"], read["number_of_sessions"]) == (2, 2, 0)
    assert (read["memory"], read["free_memory"]) == (1000, 998)
    assert 0 <= read["lease_age"] < 30 and read["heartbeat_at"] and read["drain"] is None
    assert {"block", "drain", "stop-vms", "declare-dead"} <= set(read["_actions"])
    plain = (await api.call(api.with_only(api.boss, "host.see-main."), "GET", f"/hosts/{host_id}")).body
    assert set(plain) == {"id", "name"}


@pytest.mark.acceptance(3)
@asynchronous
async def test_tenants_do_not_see_nodes(api: ApiWorld) -> None:
    host_id = a_node(api)
    for method, path in (("GET", "/hosts"), ("GET", f"/hosts/{host_id}"), ("POST", f"/hosts/{host_id}/block")):
        assert (await api.call(api.anna, method, path)).problem == "superadmin-only"
    alone = evolve(api.anna, multitenant=False)
    assert (await api.call(alone, "GET", f"/hosts/{host_id}")).status == 200


@asynchronous
async def test_flags(api: ApiWorld) -> None:
    path = f"/hosts/{a_node(api)}"
    for verb, blocked in (("block", True), ("unblock", False)):
        assert (await api.call(api.boss, "POST", f"{path}/{verb}")).body["blocked"] is blocked
    assert (await api.call(api.boss, "DELETE", path)).problem == "host-running"
    assert (await api.call(api.boss, "PATCH", path, {"name": "other"})).problem == "host-running"
    history = api.ask("SELECT kind, cause FROM events WHERE kind LIKE 'host.%%' ORDER BY id")
    assert [row["kind"] for row in history] == ["host.running", "host.blocked", "host.unblocked"]
    assert history[1]["cause"] == "host.block by boss, request test"


@asynchronous
async def test_draining(api: ApiWorld) -> None:
    host_id = a_node(api)
    acme = Belongings(api, api.acme, 2)
    acme.run_on(host_id, *acme.vms)
    path = f"/hosts/{host_id}/drain"
    assert (await api.call(api.boss, "POST", path, {"mode": "wait"})).body["drain"] == "wait"
    assert {row["desired_state"] for row in api.ask("SELECT desired_state FROM vm_runtimes")} == {"running"}
    rehearsed = {"op": "drain", "ids": [host_id], "arguments": {"mode": "stop"}, "dry_run": True}
    assert (await api.call(api.boss, "POST", "/hosts/bulk", rehearsed)).body["succeeded"] == 1
    assert {row["desired_state"] for row in api.ask("SELECT desired_state FROM vm_runtimes")} == {"running"}
    assert (await api.call(api.boss, "POST", path, {})).body["drain"] == "stop"
    assert {row["desired_state"] for row in api.ask("SELECT desired_state FROM vm_runtimes")} == {"stopped"}
    assert (await api.call(api.boss, "DELETE", path)).body["drain"] is None


@asynchronous
async def test_stopping_all_vms(api: ApiWorld, hands: Hands) -> None:
    host_id = a_node(api)
    acme, rival = Belongings(api, api.acme, 3), Belongings(api, api.rival, 1)
    acme.run_on(host_id, *acme.vms[:2])
    rival.run_on(a_node(api, "node2"), *rival.vms)
    asked = await api.call(api.boss, "POST", f"/hosts/{host_id}/stop-vms")
    assert asked.status == 202
    hands.start()
    ordered = "SELECT 1 FROM vm_runtimes WHERE desired_state = 'running'"
    await until(lambda: len(api.ask(ordered)) == 1, "the orders")
    acme.carry_out()
    await hands.until_state(asked.body["id"], "succeeded")
    assert api.ask("SELECT result FROM jobs")[0]["result"] == {"ordered": 2}
    assert api.ask("SELECT DISTINCT cause FROM events WHERE kind = 'vm.ordered' AND cause LIKE 'all VMs%%'") == [
        {"cause": "all VMs of the node node1 are stopped, request test"}
    ]


@asynchronous
async def test_declaring_dead(api: ApiWorld) -> None:
    host_id = a_node(api)
    acme = Belongings(api, api.acme, 2)
    acme.run_on(host_id, *acme.vms)
    path, body = f"/hosts/{host_id}/declare-dead", {"confirm": "node1"}
    assert (await api.call(api.boss, "POST", path, {"confirm": "node"})).problem == "invalid-value"
    assert (await api.call(evolve(api.boss, fresh=False), "POST", path, body)).problem == "reauthentication-required"
    alive = await api.call(api.boss, "POST", path, body)
    assert (alive.status, alive.problem) == (409, "host-running")
    api.ask("UPDATE host_runtimes SET lease_until = now() - interval '11 seconds'")
    dead = await api.call(api.boss, "POST", path, body)
    assert dead.status == 200, dead.body
    assert (dead.body["state"], dead.body["number_of_vms"]) == ("lost", 0)
    assert {row["vm_state"] for row in api.ask("SELECT vm_state FROM vm_runtimes")} == {"stopped"}


@asynchronous
async def test_decommissioning(api: ApiWorld) -> None:
    host_id = a_node(api, state="stopped")
    path, body = f"/hosts/{host_id}/decommission", {"confirm": "node1"}
    early = await api.call(api.boss, "POST", path, body)
    assert (early.problem, "drain it first" in early.body["detail"]) == ("conflict", True)
    await api.call(api.boss, "POST", f"/hosts/{host_id}/drain", {})
    assert (await api.call(api.boss, "POST", path, body)).body["decommissioned"] is True
    assert (await api.call(api.boss, "POST", f"/hosts/{host_id}/block")).problem == "conflict"


@asynchronous
async def test_a_token_is_shown_once(api: ApiWorld) -> None:
    made = await api.call(api.boss, "POST", "/hosts/enrolment-tokens", {"name": "node9", "hours": 2})
    assert made.status == 201 and made.body["name"] == "node9"
    token = made.body["token"]
    assert [bytes(row["token_hash"]) for row in api.ask("SELECT token_hash FROM host_tokens")] == [
        digest(Secret(token))
    ]
    assert token not in str(api.trail()) + str(api.ask("SELECT * FROM events"))
    assert [each["action"] for each in api.trail()] == ["host.enrol"]


@asynchronous
async def test_a_node_with_a_past_is_not_deleted(api: ApiWorld) -> None:
    host_id = a_node(api, state="lost")
    acme = Belongings(api, api.acme, 1)
    acme.run_on(host_id, acme.vms[0])
    kept = await api.call(api.boss, "DELETE", f"/hosts/{host_id}")
    assert (kept.problem, kept.body["dependents"]) == ("has-dependents", [{"kind": "vm", "count": 1}])
