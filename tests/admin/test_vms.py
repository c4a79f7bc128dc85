"""VMs: what is made, read, changed, deleted, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.admin.resources.vmfields import VMS
from qvd.model.declared import Creates, Kind
from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

SOON, LATER = "2030-01-01T10:00:00Z", "2030-01-01T12:00:00Z"


@asynchronous
async def test_make_read_change_delete(api: ApiWorld, desks: Desks) -> None:
    made = await api.call(
        api.anna, "POST", "/vms", {"name": "two", "user_id": desks.user, "osf_id": desks.osf, "blocked": True}
    )
    assert made.status == 201, made.body
    vm, path = made.body, f"/vms/{made.body['id']}"
    assert (vm["state"], vm["user_state"], vm["blocked"], vm["di_tag"]) == ("stopped", "disconnected", True, "default")
    assert (vm["user_name"], vm["osf_name"], vm["di_version"], vm["created_by"]) == ("alice", "desk", "1", "anna")
    assert (vm["di_id"], vm["di_id_in_use"], vm["host_id"], vm["ip"]) == (desks.di, None, None, None)
    assert "tenant_id" not in vm and vm["mac"].startswith("02:51:")
    read = await api.call(api.anna, "GET", path)
    assert read.body == vm
    changed = await api.call(
        api.anna,
        "PATCH",
        path,
        {"name": "three", "blocked": False, "di_tag": "head"},
        {"If-Match": read.headers["ETag"]},
    )
    assert (changed.status, changed.body["name"], changed.body["blocked"]) == (200, "three", False)
    assert (await api.call(api.anna, "DELETE", path)).status == 204
    assert (await api.call(api.anna, "GET", path)).status == 404
    trail = api.trail()
    assert [(each["action"], each["object_tenant_id"]) for each in trail] == [
        ("vm.create", api.acme),
        ("vm.update", api.acme),
        ("vm.delete", api.acme),
    ]
    assert (trail[1]["before"]["di_tag"], trail[1]["after"]["di_tag"]) == ("default", "head")


@asynchronous
async def test_a_sign_of_life_makes_no_other_version(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    tag = (await api.call(api.anna, "GET", f"/vms/{desks.vm}")).headers["ETag"]
    api.ask("UPDATE vm_runtimes SET vma_ok_ts = now()")
    assert (await api.call(api.anna, "PATCH", f"/vms/{desks.vm}", {"name": "x"}, {"If-Match": tag})).status == 200
    assert (await api.call(api.anna, "PATCH", f"/vms/{desks.vm}", {"name": "y"}, {"If-Match": tag})).status == 412


@asynchronous
async def test_user_and_osf_are_of_one_tenant(api: ApiWorld, desks: Desks) -> None:
    theirs: dict[str, Any] = {"name": "x", "user_id": desks.user, "osf_id": desks.their_osf}
    reply = await api.call(api.anna, "POST", "/vms", theirs)
    absent = await api.call(api.anna, "POST", "/vms", theirs | {"osf_id": 999})
    assert (reply.status, reply.problem) == (422, "reference-not-found")
    assert reply.body["detail"].replace(str(desks.their_osf), "999") == absent.body["detail"]
    assert (await api.call(api.boss, "POST", "/vms", theirs)).problem == "tenant-mismatch"
    own = theirs | {"osf_id": desks.osf}
    assert (await api.call(api.boss, "POST", "/vms", own | {"tenant_id": api.rival})).problem == "tenant-mismatch"
    assert (await api.call(api.anna, "POST", "/vms", own | {"tenant_id": api.acme})).problem == "unknown-attribute"
    made = await api.call(api.boss, "POST", "/vms", own)
    assert (made.status, made.body["tenant_id"], made.body["tenant_name"]) == (201, api.acme, "acme")
    assert (await api.call(api.anna, "POST", "/vms", own)).problem == "already-exists"


@asynchronous
async def test_another_tenants_vm_is_absent(api: ApiWorld, desks: Desks) -> None:
    desks.be("running", desks.their_vm)
    desks.connect(desks.their_vm)
    before = desks.row(desks.their_vm)
    calls = [
        (endpoint.method, endpoint.path, endpoint.body)
        for endpoint in api.endpoints
        if endpoint.path.startswith("/vms/{id}") and "properties" not in endpoint.path
    ]
    assert len(calls) > 12
    bodies = {"/vms/{id}/message": {"text": "hi"}, "/vms/{id}/tag": {"tag": "head"}, "/vms/{id}": {"name": "x"}}
    for method, path, body in calls:
        sent = bodies.get(path, {}) if body else None
        found = await api.call(api.anna, method, path.replace("{id}", str(desks.their_vm)), sent)
        absent = await api.call(api.anna, method, path.replace("{id}", "999999"), sent)
        assert found.status == 404, path
        assert found.body | {"instance": ""} == absent.body | {"instance": ""}
    assert desks.row(desks.their_vm) == before
    listed = await api.call(api.anna, "GET", "/vms")
    assert [each["id"] for each in listed.body["items"]] == [desks.vm]
    assert listed.body["page"]["total"] == 1
    for query in (f"user_id={desks.their_user}", f"osf_id={desks.their_osf}", "user_name=ruth", "state=running"):
        assert (await api.call(api.anna, "GET", f"/vms?{query}")).body["items"] == []
    assert (await api.call(api.anna, "GET", f"/vms?tenant_id={api.acme}")).problem == "unknown-filter"
    assert len((await api.call(api.boss, "GET", "/vms")).body["items"]) == 2


@pytest.mark.parametrize("name", [field.name for field in VMS.fields if field.see])
@asynchronous
async def test_each_field_is_seen_with_its_permission(api: ApiWorld, desks: Desks, name: str) -> None:
    field = VMS.get(name)
    assert field is not None
    blind = api.with_only(api.anna, "vm.see-main.")
    assert name not in (await api.call(blind, "GET", "/vms")).body["items"][0]
    assert (await api.call(blind, "GET", f"/vms?fields={name}")).problem == "forbidden-field"
    if field.filters:
        assert (await api.call(blind, "GET", f"/vms?{name}[null]=true")).problem == "forbidden-filter"
    if field.sorts:
        assert (await api.call(blind, "GET", f"/vms?sort={name}")).problem == "forbidden-sort"
    for each in field.see:
        seeing = api.with_only(api.anna, "vm.see-main.", each)
        assert name in (await api.call(seeing, "GET", "/vms")).body["items"][0]
        sort = f"&sort=-{name}" if field.sorts else ""
        assert len((await api.call(seeing, "GET", f"/vms?fields={name}{sort}")).body["items"]) == 1


@pytest.mark.parametrize("name", [field.name for field in VMS.fields if field.update_acl])
@asynchronous
async def test_each_field_is_changed_with_its_permission(api: ApiWorld, desks: Desks, name: str) -> None:
    field = VMS.get(name)
    assert field is not None
    values: dict[str, Any] = {
        "name": "new",
        "description": "new",
        "user_id": api.insert("users (tenant_id, login) VALUES (%s, 'bob')", api.acme),
        "osf_id": api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'other', 1)", api.acme),
        "di_tag": "head",
        "blocked": True,
        "ip": "10.3.0.77",
        "properties": {"qvd.client.link": "lan"},
    }
    api.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/24', '10.3.0.10')")
    if name.startswith("expiration"):
        desks.be("running")
    value = values.get(name, SOON)
    others = [each.update_acl for each in VMS.fields if each.update_acl and each.update_acl != field.update_acl]
    without = api.with_only(api.anna, "vm.see-main.", *field.see, *others)
    refused = await api.call(without, "PATCH", f"/vms/{desks.vm}", {name: value})
    assert (refused.status, refused.problem, refused.body["acl"]) == (403, "forbidden-attribute", field.update_acl)
    able = api.with_only(api.anna, "vm.see-main.", *field.see[:1], field.update_acl)
    changed = await api.call(able, "PATCH", f"/vms/{desks.vm}", {name: value})
    assert changed.status == 200, changed.body
    assert not field.sql or changed.body[name] == value


@asynchronous
async def test_the_user_and_the_osf_may_be_named(api: ApiWorld, desks: Desks) -> None:
    made = await api.call(api.anna, "POST", "/vms", {"name": "n1", "user_name": "ALICE", "osf_name": "desk"})
    assert (made.status, made.body["user_id"], made.body["osf_id"]) == (201, desks.user, desks.osf), made.body
    mixed = await api.call(api.anna, "POST", "/vms", {"name": "n2", "user_id": desks.user, "osf_name": "desk"})
    assert mixed.status == 201
    over_all = {"name": "n3", "user_name": "ruth", "osf_name": "desk"}
    assert (await api.call(api.boss, "POST", "/vms", over_all)).body["errors"][0]["pointer"] == "/tenant_id"
    theirs = await api.call(api.boss, "POST", "/vms", {**over_all, "tenant_id": api.rival})
    assert (theirs.status, theirs.body["osf_id"]) == (201, desks.their_osf)
    for body, problem, pointer in (
        ({"osf_name": "desk"}, "missing-attribute", "/user_id"),
        ({"user_name": "alice"}, "missing-attribute", "/osf_id"),
        ({"user_name": "alice", "user_id": desks.user, "osf_id": desks.osf}, "invalid-value", "/user_name"),
        ({"user_name": "ruth", "osf_id": desks.osf}, "reference-not-found", "/user_name"),
        ({"user_id": desks.user, "osf_name": "nothing"}, "reference-not-found", "/osf_name"),
    ):
        refused = await api.call(api.anna, "POST", "/vms", {"name": "n4", **body})
        assert (refused.problem, refused.body["errors"][0]["pointer"]) == (problem, pointer)


@asynchronous
async def test_what_is_given_at_creation_needs_permissions_too(api: ApiWorld, desks: Desks) -> None:
    maker = api.with_only(api.anna, "vm.create.")
    body: dict[str, Any] = {"name": "x", "user_id": desks.user, "osf_id": desks.osf}
    given = {"di_tag": "head", "blocked": True, "ip": "10.0.0.1", "properties": {"qvd.client.link": "lan"}}
    restricted = {each.name: each.create_acl for each in VMS.fields if each.create_acl}
    assert given.keys() == restricted.keys()
    assert {each.name for each in VMS.fields if each.creates is Creates.MUST} == body.keys()
    for name, value in given.items():
        assert (await api.call(maker, "POST", "/vms", body | {name: value})).body["acl"] == restricted[name]
    assert (await api.call(maker, "POST", "/vms", body)).body == {"id": desks.their_vm + 1, "name": "x"}
    reader = api.with_only(api.anna, "vm.see-main.")
    assert (await api.call(reader, "POST", "/vms", body)).problem == "forbidden"


@asynchronous
async def test_what_a_run_has_read_is_changed_while_it_is_stopped(api: ApiWorld, desks: Desks) -> None:
    bob = api.insert("users (tenant_id, login) VALUES (%s, 'bob')", api.acme)
    path = f"/vms/{desks.vm}"
    for state in ("starting", "running", "stopping", "zombie"):
        desks.be(state)
        for change in ({"user_id": bob}, {"osf_id": desks.their_osf}, {"ip": "10.0.0.9"}):
            reply = await api.call(api.anna, "PATCH", path, change)
            assert (reply.status, reply.problem) in ((409, "vm-running"), (422, "reference-not-found"))
        assert (await api.call(api.anna, "PATCH", path, {"user_id": desks.user, "name": state})).status == 200
        gone = await api.call(api.anna, "DELETE", path)
        assert (gone.status, gone.problem) == (409, "vm-running")
    desks.be("stopped")
    await api.call(api.anna, "POST", f"{path}/start")
    assert (await api.call(api.anna, "DELETE", path)).body["detail"].startswith("The VM is to be started")
    assert (await api.call(api.anna, "PATCH", path, {"user_id": bob})).problem == "vm-running"
    await api.call(api.anna, "POST", f"{path}/stop")
    desks.be("stopped")
    assert (await api.call(api.anna, "PATCH", path, {"user_id": bob})).body["user_name"] == "bob"
    assert (await api.call(api.boss, "PATCH", path, {"user_id": desks.their_user})).problem == "tenant-mismatch"
    assert (await api.call(api.anna, "DELETE", path)).status == 204


@asynchronous
async def test_a_vm_that_somebody_used_is_deleted_with_its_sessions(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    session = desks.connect()
    api.ask("UPDATE sessions SET state = 'disconnected', ended_at = now() WHERE id = %s", session)
    desks.be("stopped")
    assert (await api.call(api.anna, "DELETE", f"/vms/{desks.vm}")).status == 204


@asynchronous
async def test_addresses_are_compared_as_such(api: ApiWorld, desks: Desks) -> None:
    api.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/24', '10.3.0.10')")
    desks.new_vm(api.acme, desks.user, desks.osf, "two")
    for address, name in (("10.3.0.100", "alice-1"), ("10.3.0.20", "two")):
        api.ask("UPDATE vms SET ip = %s WHERE name = %s", address, name)

    async def names(query: str) -> list[str]:
        reply = await api.call(api.anna, "GET", f"/vms?{query}")
        return [each["name"] for each in reply.body["items"]]

    assert await names("sort=ip") == ["two", "alice-1"]
    assert await names("ip=10.3.0.20") == ["two"]
    assert await names("ip=10.3.0.20,10.3.0.100") == ["alice-1", "two"]
    assert await names("ip[between]=10.3.0.15,10.3.0.30") == ["two"]
    assert await names("ip[nin]=10.3.0.20") == ["alice-1"]
    first = await api.call(api.anna, "GET", "/vms?sort=ip&limit=1")
    assert await names(f"sort=ip&limit=1&cursor={first.body['page']['next']}") == ["alice-1"]
    taken = await api.call(api.anna, "PATCH", f"/vms/{desks.vm}", {"ip": "10.3.0.20"})
    assert (taken.status, taken.problem) == (409, "already-exists")
    search = {"filter": {"field": "ip", "op": "in", "value": [None, "10.3.0.20"]}}
    assert [each["name"] for each in (await api.call(api.anna, "POST", "/vms/search", search)).body["items"]] == ["two"]


@asynchronous
async def test_pages_in_an_order_that_other_tables_give(api: ApiWorld, desks: Desks) -> None:
    for login in ("zoe", "bob", "eve"):
        user = api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, login)
        for number in (1, 2):
            desks.be("running", desks.new_vm(api.acme, user, desks.osf, f"{login}-{number}"))
    path, seen = "/vms?sort=-user_name,name&state=running&limit=2", []
    reply = await api.call(api.anna, "GET", path)
    while True:
        seen += [each["name"] for each in reply.body["items"]]
        assert {each["host_name"] for each in reply.body["items"]} == {"node1"}
        if reply.body["page"]["next"] is None:
            break
        reply = await api.call(api.anna, "GET", f"{path}&cursor={reply.body['page']['next']}")
    assert seen == ["zoe-1", "zoe-2", "eve-1", "eve-2", "bob-1", "bob-2"]
    back = await api.call(api.anna, "GET", f"{path}&cursor={reply.body['page']['prev']}")
    assert [each["name"] for each in back.body["items"]] == ["eve-1", "eve-2"]
    third = await api.call(api.anna, "GET", f"{path}&page=3&fields=user_name")
    assert [each["user_name"] for each in third.body["items"]] == ["bob", "bob"]


VALUES = {
    Kind.TEXT: "a",
    Kind.INTEGER: "1",
    Kind.BOOLEAN: "true",
    Kind.TIME: SOON,
    Kind.ADDRESS: "10.3.0.10",
}


@asynchronous
async def test_each_field_can_be_compared_and_sorted_by(api: ApiWorld, desks: Desks) -> None:
    for field in VMS.fields:
        if field.filters:
            value = VALUES[field.kind]
            for each in (f"={value}", f"[ne]={value}", f"[lt]={value}", f"[nin]={value}", f"[between]={value},{value}"):
                assert (await api.call(api.boss, "GET", f"/vms?fields=name&{field.name}{each}")).status == 200, field
        if field.sorts:
            path = f"/vms?sort=-{field.name}&limit=1&fields=name"
            first = await api.call(api.boss, "GET", path)
            rest = await api.call(api.boss, "GET", f"{path}&cursor={first.body['page']['next']}")
            seen = [each["id"] for reply in (first, rest) for each in reply.body["items"]]
            assert sorted(seen) == [desks.vm, desks.their_vm], field


@asynchronous
async def test_dates(api: ApiWorld, desks: Desks) -> None:
    path = f"/vms/{desks.vm}/expiration"
    stopped = await api.call(api.anna, "PUT", path, {"soft": SOON})
    assert (stopped.status, stopped.problem) == (409, "invalid-vm-state")
    desks.be("running")
    wrong = await api.call(api.anna, "PUT", path, {"soft": LATER, "hard": SOON})
    assert (wrong.status, wrong.problem) == (422, "invalid-expiration")
    put = await api.call(api.anna, "PUT", path, {"soft": SOON, "hard": LATER})
    assert (put.status, put.body["expiration_soft"], put.body["expiration_hard"]) == (200, SOON, LATER)
    wrong = await api.call(api.anna, "PATCH", f"/vms/{desks.vm}", {"expiration_hard": "2029-01-01T00:00:00Z"})
    assert wrong.problem == "invalid-expiration"
    assert (await api.call(api.anna, "PUT", path, {"hard": SOON})).body["expiration_soft"] is None
    deleted = await api.call(api.anna, "DELETE", path)
    assert (deleted.body["expiration_soft"], deleted.body["expiration_hard"]) == (None, None)
    for unfit in ("2030-01-01T10:00:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        assert (await api.call(api.anna, "PUT", path, {"hard": unfit})).problem == "invalid-value"
    assert (await api.call(api.with_only(api.anna, "vm.update.name"), "PUT", path, {})).problem == "forbidden"


@asynchronous
async def test_a_tag_says_what_it_means_for_the_run(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    api.ask("INSERT INTO dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '2')", api.acme, desks.osf)
    path = f"/vms/{desks.vm}/tag"
    head = await api.call(api.anna, "PUT", path, {"tag": "head"})
    assert head.body == {"image_in_use": "1", "image_assigned": "2", "restart_needed": True}
    same = await api.call(api.anna, "PUT", path, {"tag": "default"})
    assert same.body == {"image_in_use": "1", "image_assigned": "1", "restart_needed": False}
    assert (await api.call(api.anna, "PUT", path, {"tag": "none"})).body["image_assigned"] is None
    able = api.with_only(api.anna, "vm.update.di-tag")
    blind = await api.call(able, "PUT", path, {"tag": "head"})
    assert blind.body == {"image_in_use": None, "image_assigned": None, "restart_needed": True}
