"""VMs that are made for users: one, and one for each of many."""

from __future__ import annotations

from typing import Any

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_one(api: ApiWorld, desks: Desks) -> None:
    path = f"/users/{desks.user}/vms"
    made = await api.call(api.anna, "POST", path, {"osf_id": desks.osf})
    assert (made.status, made.body["name"], made.body["user_id"]) == (201, "alice-2", desks.user), made.body
    assert made.headers["Location"] == f"/api/v1/vms/{made.body['id']}"
    (row,) = api.trail()
    assert (row["action"], row["kind"], row["object_id"]) == ("user.create-vm", "vm", made.body["id"])
    more: dict[str, Any] = {"osf_name": "desk", "name_pattern": "{user} at work {n}", "description": "d"}
    named = await api.call(api.anna, "POST", path, more)
    assert (named.body["name"], named.body["description"]) == ("alice at work 1", "d")
    more["name_pattern"] = "desktop"
    assert (await api.call(api.boss, "POST", path, more)).body["name"] == "desktop"
    assert (await api.call(api.anna, "POST", path, more)).problem == "already-exists"
    more["name_pattern"] = "{user}" * 10
    long = await api.call(api.anna, "POST", path, more | {"name_pattern": "{user}" + "x" * 60})
    assert (long.status, long.problem) == (422, "invalid-value")


@asynchronous
async def test_who_may(api: ApiWorld, desks: Desks) -> None:
    body = {"osf_id": desks.osf}
    theirs = await api.call(api.rick, "POST", f"/users/{desks.user}/vms", body)
    absent = await api.call(api.rick, "POST", "/users/999999/vms", body)
    assert theirs.status == 404 and theirs.body["detail"] == absent.body["detail"]
    foreign = await api.call(api.anna, "POST", f"/users/{desks.user}/vms", {"osf_id": desks.their_osf})
    assert foreign.problem == "reference-not-found"
    maker = api.with_only(api.anna, "vm.create.")
    refused = await api.call(maker, "POST", f"/users/{desks.user}/vms", body | {"di_tag": "head"})
    assert refused.problem == "forbidden-attribute"
    assert (await api.call(maker, "POST", f"/users/{desks.user}/vms", body)).status == 201
    other = api.with_only(api.anna, "user.create.", "vm.see-main.")
    assert (await api.call(other, "POST", f"/users/{desks.user}/vms", body)).problem == "forbidden"


@asynchronous
async def test_one_for_each_of_many(api: ApiWorld, desks: Desks) -> None:
    bob = api.insert("users (tenant_id, login) VALUES (%s, 'bob')", api.acme)
    ids = [desks.user, bob, desks.their_user]
    body = {"op": "create-vm", "ids": ids, "arguments": {"osf_name": "desk"}}
    rehearsed = await api.call(api.anna, "POST", "/users/bulk", {**body, "dry_run": True})
    assert (rehearsed.body["succeeded"], rehearsed.body["failed"]) == (2, 1)
    done = await api.call(api.anna, "POST", "/users/bulk", body)
    assert [each["status"] for each in done.body["results"]] == [201, 201, 404]
    names = api.ask("SELECT name FROM vms WHERE tenant_id = %s ORDER BY name", api.acme)
    assert [row["name"] for row in names] == ["alice-1", "alice-2", "bob-1"]
