"""How a VM runs, why it is where it is, what happened to it; and the lists of VMs of other objects."""

from __future__ import annotations

from tests.admin.desks import GIB, Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_runtime(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    desks.connect()
    path = f"/vms/{desks.vm}/runtime"
    reply = await api.call(api.anna, "GET", path)
    assert (reply.status, reply.body["state"], reply.body["host_name"]) == (200, "running", "node1")
    assert (reply.body["client_address"], reply.body["user_state"]) == ("192.0.2.1:5", "connected")
    assert "name" not in reply.body and "vm_secret" not in str(reply.body)
    blind = await api.call(api.with_only(api.anna, "vm.see.runtime"), "GET", path)
    assert not blind.body.keys() & {"state", "host_id", "host_name", "ip_in_use", "user_state"}
    assert blind.body["phase"] == "stopped"
    assert (await api.call(api.with_only(api.anna, "vm.see-main."), "GET", path)).problem == "forbidden"


@asynchronous
async def test_explain(api: ApiWorld, desks: Desks) -> None:
    path = f"/vms/{desks.vm}/explain"
    never = await api.call(api.anna, "GET", path)
    assert never.body["lines"][-1].strip() == "was never placed on a node" and never.body["nodes"] == []
    desks.new_host("node2", GIB // 2)
    await api.call(api.anna, "POST", f"/vms/{desks.vm}/start")
    placed = await api.call(api.anna, "GET", path)
    one, two = placed.body["nodes"]
    assert (one["name"], one["taken"], one["rejection"]) == ("node1", True, None)
    assert (two["name"], two["taken"], two["score"]) == ("node2", False, None) and two["rejection"]
    assert "MiB left" in str(placed.body["lines"])
    held = ("vm.see.runtime", "vm.see.host")
    modest = await api.call(api.with_only(api.anna, *held), "GET", path)
    assert "node1: score" in str(modest.body["lines"]) and "MiB left" not in str(modest.body["lines"])
    for missing in held:
        left = [name for name in held if name != missing]
        assert (await api.call(api.with_only(api.anna, *left), "GET", path)).body["acl"] == missing


@asynchronous
async def test_events(api: ApiWorld, desks: Desks) -> None:
    for verb in ("start", "stop", "start"):
        await api.call(api.anna, "POST", f"/vms/{desks.vm}/{verb}")
    await api.call(api.rick, "POST", f"/vms/{desks.their_vm}/start")
    path = f"/vms/{desks.vm}/events"
    first = await api.call(api.anna, "GET", f"{path}?limit=2")
    assert [each["kind"] for each in first.body["items"]] == ["vm.ordered", "vm.ordered"]
    assert first.body["items"][0]["cause"] == "vm.start by anna, request test"
    assert first.body["items"][0]["after"]["host_id"] == desks.host
    rest = await api.call(api.anna, "GET", f"{path}?limit=2&cursor={first.body['page']['next']}")
    assert len(rest.body["items"]) == 1 and rest.body["page"]["next"] is None
    blind = await api.call(api.with_only(api.anna, "vm.see.log"), "GET", path)
    assert blind.body["items"][0]["host_id"] is None and "host_id" not in blind.body["items"][0]["after"]
    for query in ("limit=0", "limit=501", "cursor=x", "limit=1&limit=2", "cursor=9999999999999999999"):
        assert (await api.call(api.anna, "GET", f"{path}?{query}")).status == 400
    assert len((await api.call(api.anna, "GET", f"{path}?cursor=99999999999")).body["items"]) == 3
    assert (await api.call(api.anna, "GET", f"{path}?kind=x")).problem == "unknown-filter"
    assert (await api.call(api.with_only(api.anna, "vm.see-main."), "GET", path)).problem == "forbidden"


@asynchronous
async def test_the_vms_of_a_user(api: ApiWorld, desks: Desks) -> None:
    bob = api.insert("users (tenant_id, login) VALUES (%s, 'bob')", api.acme)
    for number in range(3):
        desks.new_vm(api.acme, bob, desks.osf, f"bob-{number}")
    path = f"/users/{bob}/vms"
    first = await api.call(api.anna, "GET", f"{path}?sort=-name&limit=2")
    assert [each["name"] for each in first.body["items"]] == ["bob-2", "bob-1"]
    assert first.body["page"]["total"] == 3
    assert f"/api/v1{path}?" in first.headers["Link"]
    rest = await api.call(api.anna, "GET", f"{path}?sort=-name&limit=2&cursor={first.body['page']['next']}")
    assert [each["name"] for each in rest.body["items"]] == ["bob-0"]
    assert [each["name"] for each in (await api.call(api.anna, "GET", f"{path}?name=bob-1")).body["items"]] == ["bob-1"]
    assert (await api.call(api.anna, "GET", f"{path}?user_id={desks.user}")).body["items"] == []


@asynchronous
async def test_what_such_a_list_shows(api: ApiWorld, desks: Desks) -> None:
    path = f"/users/{desks.user}/vms"
    embedded = api.with_only(api.anna, "user.see.vm-list")
    [seen] = (await api.call(embedded, "GET", path)).body["items"]
    assert set(seen) == {"id", "name"}
    for short, names in (
        ("block", {"blocked"}),
        ("state", {"state"}),
        ("user-state", {"user_state"}),
        ("expiration", {"expiration_soft", "expiration_hard"}),
    ):
        caller = api.with_only(api.anna, "user.see.vm-list", f"user.see.vm-list-{short}")
        [seen] = (await api.call(caller, "GET", path)).body["items"]
        assert set(seen) == {"id", "name", *names}
    assert (await api.call(api.with_only(api.anna, "user.see-main."), "GET", path)).problem == "forbidden"
    theirs = await api.call(api.anna, "GET", f"/users/{desks.their_user}/vms")
    absent = await api.call(api.anna, "GET", "/users/999999/vms")
    assert theirs.status == 404 and theirs.body["detail"] == absent.body["detail"]
