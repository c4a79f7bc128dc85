"""How a VM runs, why it is where it is, what happened to it; and the lists of VMs of other objects."""

from __future__ import annotations

from qvd.model.declared import Principal
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
async def test_since_when_nobody_uses_it(api: ApiWorld, desks: Desks) -> None:
    path = f"/vms/{desks.vm}?fields=idle_since,since"

    async def idle() -> object:
        return (await api.call(api.anna, "GET", path)).body["idle_since"]

    assert await idle() is None, "it does not run"
    desks.be("running")
    api.ask("UPDATE vm_runtimes SET since = now() - interval '9 hours' WHERE vm_id = %s", desks.vm)
    read = (await api.call(api.anna, "GET", path)).body
    assert read["idle_since"] == read["since"]
    session = desks.connect()
    assert await idle() is None, "somebody is connected"
    api.ask("UPDATE sessions SET state = 'disconnected', ended_at = now() - interval '7 hours' WHERE id = %s", session)
    between = {"and": [{"field": "idle_since", "op": op, "value": at} for op, at in spans(api, 6, 8)]}
    found = await api.call(api.anna, "POST", "/vms/search", {"filter": between})
    assert [each["id"] for each in found.body["items"]] == [desks.vm]


def spans(api: ApiWorld, least: int, most: int) -> list[tuple[str, str]]:
    """Before C{least} hours ago, and after C{most}."""
    sql = "SELECT to_char(now() - make_interval(hours => %s), 'YYYY-MM-DD\"T\"HH24:MI:SSOF:00') AS at"
    return [(op, api.ask(sql, hours)[0]["at"]) for op, hours in (("lt", least), ("gt", most))]


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


@asynchronous
async def test_the_vms_of_a_node_an_osf_and_an_image(api: ApiWorld, desks: Desks) -> None:
    other = desks.new_vm(api.acme, desks.user, desks.osf, "alice-2")
    desks.be("running")
    desks.be("running", desks.their_vm)

    async def of(who: Principal, path: str) -> list[int]:
        reply = await api.call(who, "GET", f"{path}/vms?sort=name")
        assert reply.status == 200, reply.body
        return [each["id"] for each in reply.body["items"]]

    assert await of(api.boss, f"/hosts/{desks.host}") == [desks.vm, desks.their_vm]
    assert await of(api.anna, f"/osfs/{desks.osf}") == [desks.vm, other]
    new = api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'new', '2')", api.acme, desks.osf)
    api.ask("UPDATE di_tags SET di_id = %s WHERE osf_id = %s AND tag = 'default'", new, desks.osf)
    assert await of(api.anna, f"/images/{new}") == [desks.vm, other], "those that it is assigned to"
    assert await of(api.anna, f"/images/{desks.di}") == [desks.vm], "and those that run it still"
    for path in (f"/osfs/{desks.their_osf}/vms", f"/images/{desks.their_di}/vms"):
        assert (await api.call(api.anna, "GET", path)).status == 404
    assert (await api.call(api.anna, "GET", f"/hosts/{desks.host}/vms")).status in (403, 404)
    for kind, path in (("osf", f"/osfs/{desks.osf}"), ("di", f"/images/{desks.di}")):
        assert len(await of(api.with_only(api.anna, f"{kind}.see.vm-list"), path)) > 0
        main = api.with_only(api.anna, f"{kind}.see-main.")
        assert (await api.call(main, "GET", f"{path}/vms")).problem == "forbidden"


@asynchronous
async def test_what_a_tenant_has(api: ApiWorld, desks: Desks) -> None:
    found = {}
    for collection in ("users", "vms", "images", "osfs", "administrators", "roles"):
        path = f"/tenants/{api.acme}/{collection}"
        reply = await api.call(api.boss, "GET", path)
        assert reply.status == 200, reply.body
        found[collection] = [each["id"] for each in reply.body["items"]]
        assert (await api.call(api.anna, "GET", path)).status in (403, 404)
        assert (await api.call(api.boss, "GET", f"/tenants/999999/{collection}")).status == 404
    assert found["users"] == [desks.user] and found["vms"] == [desks.vm] and found["osfs"] == [desks.osf]
    assert found["images"] == [desks.di] and found["administrators"] == [api.anna.administrator_id]
    seeing = api.with_only(api.boss, "tenant.see.vm-list")
    assert (await api.call(seeing, "GET", f"/tenants/{api.acme}/vms")).status == 200
    assert (await api.call(seeing, "GET", f"/tenants/{api.acme}/users")).problem == "forbidden"
