"""Emptying tenants, and deleting what others depend on."""

from __future__ import annotations

from collections.abc import AsyncIterator

from qvd.admin.api import all_endpoints
from tests.admin.belongings import KINDS, Belongings, a_node
from tests.admin.hands import Hands
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, until

ANY = {"If-Match": "*"}


@asynchronous_fixture
async def hands(api: ApiWorld) -> AsyncIterator[Hands]:
    api.endpoints = all_endpoints(KINDS)
    made = Hands(api, KINDS)
    yield made
    await made.stop()


@asynchronous
async def test_contents_and_the_guard(api: ApiWorld, hands: Hands) -> None:
    acme = Belongings(api, api.acme, 3)
    acme.run_on(a_node(api), acme.vms[0])
    found = await api.call(api.boss, "GET", f"/tenants/{api.acme}/contents")
    counts = {kind: count for kind, count in found.body["counts"].items() if count}
    assert counts == {"vms": 3, "users": 1, "images": 1, "osfs": 1, "administrators": 1}
    assert found.body["running_vms"] == 1
    kept = await api.call(api.boss, "DELETE", f"/tenants/{api.acme}", headers=ANY)
    assert (kept.status, kept.problem) == (409, "has-dependents")
    assert {each["kind"]: each["count"] for each in kept.body["dependents"]} == counts
    for path in ("", "/contents"):
        assert (await api.call(api.anna, "GET", f"/tenants/{api.acme}{path}")).status == 404
    assert (await api.call(api.anna, "POST", f"/tenants/{api.acme}/purge", {"confirm": "acme"})).status == 404


@asynchronous
async def test_everything_goes_and_nothing_of_others(api: ApiWorld, hands: Hands) -> None:
    acme, rival = Belongings(api, api.acme, 4), Belongings(api, api.rival, 2)
    common = Belongings(api, -1, 0)
    acme.run_on(a_node(api), *acme.vms[:2])
    wrong = await api.call(api.boss, "POST", f"/tenants/{api.acme}/purge", {"confirm": "rival"})
    assert wrong.problem == "invalid-value"
    body = {"confirm": "acme", "stop_vms": True, "delete_tenant": True}
    asked = await api.call(api.boss, "POST", f"/tenants/{api.acme}/purge", body)
    assert asked.status == 202
    hands.start()
    stopped = "SELECT 1 FROM vm_runtimes WHERE tenant_id = %s AND desired_state = 'running'"
    await until(lambda: not api.ask(stopped, api.acme), "the orders")
    acme.carry_out()
    await hands.until_state(asked.body["id"], "succeeded")
    job = (await api.call(api.boss, "GET", f"/jobs/{asked.body['id']}")).body
    assert job["result"]["deleted"] == {
        "vms": 4, "users": 1, "images": 1, "osfs": 1, "administrators": 1, "tenants": 1,
    }  # fmt: skip
    assert [row["name"] for row in api.ask("SELECT name FROM tenants WHERE id > 0")] == ["rival"]
    assert (rival.count("vms"), rival.count("users"), rival.count("dis")) == (2, 1, 1)
    assert (common.count("osfs"), common.count("dis")) == (1, 1)
    trail = [each["action"] for each in api.trail() if each["outcome"] == "done"]
    assert trail.count("vm.delete") == 4 and trail[-1] == "tenant.delete" and trail[0] == "tenant.purge"


@asynchronous
async def test_what_cannot_go_stays_and_is_told(api: ApiWorld, hands: Hands) -> None:
    acme = Belongings(api, api.acme, 3)
    acme.run_on(a_node(api), acme.vms[1])
    asked = await api.call(api.boss, "POST", f"/tenants/{api.acme}/purge", {"confirm": "acme", "delete_tenant": True})
    hands.start()
    await hands.until_state(asked.body["id"], "partial")
    # The VM that runs keeps its user, its image and its OSF.
    result = api.ask("SELECT result FROM jobs")[0]["result"]
    assert result["deleted"] == {"vms": 2, "administrators": 1}
    assert [(each["kind"], each["id"]) for each in result["failures"]] == [
        ("vms", acme.vms[1]),
        ("users", acme.user),
        ("images", acme.image),
        ("osfs", acme.osf),
    ]
    api.ask("UPDATE vm_runtimes SET desired_state = 'stopped'")
    acme.carry_out()
    await api.call(api.boss, "POST", f"/jobs/{asked.body['id']}/retry")
    hands.start()
    await hands.until_state(asked.body["id"], "succeeded")
    assert api.ask("SELECT 1 FROM tenants WHERE id = %s", api.acme) == []


@asynchronous
async def test_another_service_goes_on(api: ApiWorld, hands: Hands) -> None:
    acme = Belongings(api, api.acme, 250)
    body = {"confirm": "acme", "kinds": ["vms"]}
    asked = await api.call(api.boss, "POST", f"/tenants/{api.acme}/purge", body)
    hands.start()
    await until(lambda: acme.count("vms") < 200, "some of them")
    await hands.stop()
    assert api.ask("SELECT state FROM jobs") == [{"state": "queued"}] and acme.count("vms") > 0
    hands.start()
    await hands.until_state(asked.body["id"], "succeeded")
    assert (acme.count("vms"), acme.count("users")) == (0, 1)
    deleted = [each for each in api.trail() if each["action"] == "vm.delete" and each["outcome"] == "done"]
    assert len(deleted) == 250


@asynchronous
async def test_blocking_a_tenant(api: ApiWorld) -> None:
    for verb, blocked in (("block", True), ("unblock", False)):
        assert (await api.call(api.boss, "POST", f"/tenants/{api.acme}/{verb}")).body["blocked"] is blocked
    assert (await api.call(api.boss, "POST", "/tenants/0/block")).problem == "conflict"
    assert (await api.call(api.boss, "DELETE", "/tenants/0", headers=ANY)).problem == "conflict"


@asynchronous
async def test_a_user_with_vms(api: ApiWorld) -> None:
    acme = Belongings(api, api.acme, 2)
    path = f"/users/{acme.user}"
    kept = await api.call(api.anna, "DELETE", path)
    assert (kept.problem, kept.body["dependents"]) == ("has-dependents", [{"kind": "vm", "count": 2}])
    only_users = api.with_only(api.anna, "user.delete.")
    assert (await api.call(only_users, "DELETE", f"{path}?cascade=vms")).problem == "forbidden"
    assert (await api.call(api.anna, "DELETE", f"{path}?cascade=all")).problem == "malformed-request"
    acme.run_on(a_node(api), acme.vms[0])
    assert (await api.call(api.anna, "DELETE", f"{path}?cascade=vms")).problem == "vm-running"
    api.ask("UPDATE vm_runtimes SET desired_state = 'stopped'")
    acme.carry_out()
    assert (await api.call(api.anna, "DELETE", f"{path}?cascade=vms")).status == 204
    assert (acme.count("vms"), acme.count("users")) == (0, 0)
    assert [each["name"] for each in api.trail()[-1]["before"]["vms"]] == ["vm1", "vm2"]
