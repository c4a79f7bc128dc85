"""Custom properties: acceptance point 18."""

from __future__ import annotations

from random import Random
from typing import Any

import psycopg2.extensions
import pytest
from attrs import evolve, frozen

from qvd.db.pool import Pool
from qvd.db.vms import VMs
from qvd.db.wishes import wanted_for
from qvd.model.ids import VMId
from qvd.model.placement import Weights
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous


@frozen
class Things:
    """Objects of a tenant, one of each kind, by kind."""

    paths: dict[str, str]
    ids: dict[str, int]

    def of(self, kind: str, key: str = "") -> str:
        return f"{self.paths[kind]}/properties" + (f"/{key}" if key else "")


def things(api: ApiWorld, tenant: int) -> Things:
    user = api.insert("users (tenant_id, login) VALUES (%s, 'alice')", tenant)
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', 1000)", tenant)
    image = api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'desk', '1')", tenant, osf)
    api.ask(
        "INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)"
        " ON CONFLICT (osf_id, tag) DO UPDATE SET di_id = excluded.di_id",
        osf,
        image,
    )
    vm = api.insert(
        "vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'one')", tenant, user, osf
    )  # fmt: skip
    host = api.insert("hosts (name, address) VALUES (%s, '127.0.0.1')", f"node{tenant}")
    ids = {"user": user, "osf": osf, "di": image, "vm": vm, "host": host}
    collections = {"user": "users", "osf": "osfs", "di": "images", "vm": "vms", "host": "hosts"}
    return Things({kind: f"/{collections[kind]}/{number}" for kind, number in ids.items()}, ids)


async def define(api: ApiWorld, key: str, who: Any = None, **more: Any) -> int:
    """Define a property of acme for all kinds but nodes."""
    body = {"key": key, "kinds": ["user", "vm", "osf", "di"]} | more
    reply = await api.call(who or api.anna, "POST", "/properties", body)
    assert reply.status == 201, reply.body
    return int(reply.body["id"])


def values(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    return {each["key"]: each["value"] for each in reply.body["items"]}


@asynchronous
async def test_definitions(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", "/properties", {"key": "cost_center", "kinds": ["vm"], "type": "integer"})
    assert made.status == 201
    assert made.body == {
        "id": made.body["id"],
        "key": "cost_center",
        "description": "",
        "type": "integer",
        "kinds": ["vm"],
        "values": {"vm": 0},
    }
    path = f"/properties/{made.body['id']}"
    changed = await api.call(api.anna, "PATCH", path, {"description": "Who pays"})
    assert changed.body["description"] == "Who pays"
    attached = await api.call(api.anna, "PUT", f"{path}/kinds/user")
    assert attached.body["kinds"] == ["vm", "user"]
    assert (await api.call(api.anna, "PUT", f"{path}/kinds/tenant")).status == 404
    assert (await api.call(api.anna, "DELETE", path)).status == 204
    assert [(each["action"], each["object_name"]) for each in api.trail() if each["outcome"] == "done"] == [
        ("property.create", "cost_center"),
        ("property.update", "cost_center"),
        ("property.attach", "cost_center"),
        ("property.delete", "cost_center"),
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"key": "qvd.placement.require"}, "invalid-value"),
        ({"key": "a b"}, "invalid-value"),
        ({"key": ""}, "invalid-value"),
        ({"key": "a", "kinds": ["tenant"]}, "invalid-value"),
        ({"key": "a", "kinds": ["vm", "vm"]}, "invalid-value"),
        ({"key": "a", "kinds": [{}]}, "invalid-value"),
        ({"key": "a", "kinds": ["host"]}, "tenant-mismatch"),
        ({"key": "a", "type": "date"}, "invalid-value"),
        ({"key": "a", "tenant_id": 1}, "unknown-attribute"),
    ],
)
@asynchronous
async def test_definitions_that_are_none(api: ApiWorld, body: dict[str, Any], problem: str) -> None:
    assert (await api.call(api.anna, "POST", "/properties", body)).problem == problem
    assert api.ask("SELECT * FROM properties") == []


@asynchronous
async def test_whose_definitions_are_whose(api: ApiWorld) -> None:
    await define(api, "mine")
    await define(api, "mine", api.rick)
    for_all = {"key": "mine", "tenant_id": 0}
    assert (await api.call(api.boss, "POST", "/properties", for_all)).problem == "already-exists"
    shared = await api.call(api.boss, "POST", "/properties", {"key": "all", "tenant_id": 0, "kinds": ["host", "vm"]})
    assert shared.status == 201
    assert (await api.call(api.anna, "POST", "/properties", {"key": "all"})).problem == "already-exists"
    nobodys = await api.call(api.boss, "POST", "/properties", {"key": "x", "tenant_id": -1})
    assert nobodys.problem == "reference-not-found"
    assert (await api.call(api.anna, "GET", f"/properties/{shared.body['id']}")).status == 404
    assert [each["key"] for each in (await api.call(api.anna, "GET", "/properties")).body["items"]] == ["mine"]
    assert len((await api.call(api.boss, "GET", "/properties")).body["items"]) == 3


@asynchronous
async def test_definitions_of_a_kind(api: ApiWorld) -> None:
    await define(api, "a", kinds=["vm"])
    await define(api, "b", kinds=["user", "vm"])
    sees = api.with_only(api.anna, "user.see.properties")
    found = await api.call(sees, "GET", "/properties?kind=user")
    assert [each["key"] for each in found.body["items"]] == ["b"]
    assert (await api.call(sees, "GET", "/properties?kind=vm")).problem == "forbidden"
    assert (await api.call(sees, "GET", "/properties")).problem == "forbidden"
    assert (await api.call(sees, "GET", "/properties?kind=tenant")).status == 404
    both = await api.call(api.anna, "GET", "/properties?kind=vm&key[prefix]=a&limit=1")
    assert [each["key"] for each in both.body["items"]] == ["a"]


@pytest.mark.acceptance(18)
@asynchronous
async def test_values_of_types(api: ApiWorld) -> None:
    here = things(api, api.acme)
    for kind in ("text", "integer", "boolean", "secret"):
        await define(api, kind, type=kind)
    good: dict[str, Any] = {"text": "t", "integer": 7, "boolean": True, "secret": "hunter2"}
    for key, value in good.items():
        for kind in ("user", "vm", "osf", "di"):
            reply = await api.call(api.anna, "PUT", here.of(kind, key), {"value": value})
            assert reply.status == 200, reply.body
    for kind in ("user", "vm", "osf", "di"):
        read = await api.call(api.anna, "GET", here.of(kind))
        assert values(read) == good | {"secret": None}
        assert [each["is_set"] for each in read.body["items"]] == [True] * 4
    assert values(await api.call(api.anna, "GET", here.of("vm") + "?effective=true"))["secret"] is None
    for key, value in {"text": 1, "integer": "x", "boolean": "yes", "secret": 5}.items():
        reply = await api.call(api.anna, "PUT", here.of("vm", key), {"value": value})
        assert reply.problem == "invalid-value"
    gone = await api.call(api.anna, "PUT", here.of("vm", "text"), {"value": None})
    assert "text" not in values(gone)
    assert (await api.call(api.anna, "DELETE", here.of("vm", "integer"))).status == 204
    assert (await api.call(api.anna, "DELETE", here.of("vm", "integer"))).status == 404
    assert (
        await api.call(api.anna, "PUT", here.of("vm", "undefined"), {"value": "x"})
    ).problem == "reference-not-found"
    assert "hunter2" not in str(api.trail())
    assert api.ask("SELECT value FROM vm_properties ORDER BY key") == [{"value": "true"}, {"value": "hunter2"}]
    set_text = [each for each in api.trail() if each["action"] == "vm.set-property" and each["outcome"] == "done"]
    assert (set_text[0]["before"], set_text[0]["after"]) == ({"properties": {}}, {"properties": {"text": "t"}})
    assert set_text[3]["after"] == {"properties": {"secret": "***"}}


@asynchronous
async def test_another_tenants_objects_are_absent(api: ApiWorld) -> None:
    here, there = things(api, api.acme), things(api, api.rival)
    await define(api, "key")
    for kind in ("user", "vm", "osf", "di"):
        absent = f"/{there.paths[kind].split('/')[1]}/999999/properties"
        for method, end, body in (("GET", "", None), ("PUT", "/key", {"value": "x"}), ("DELETE", "/key", None)):
            foreign = await api.call(api.anna, method, there.of(kind) + end, body)
            none = await api.call(api.anna, method, absent + end, body)
            assert foreign.status == 404
            assert foreign.body | {"instance": ""} == none.body | {"instance": ""}
    assert (await api.call(api.anna, "GET", here.of("host"))).problem == "superadmin-only"
    reader = api.with_only(api.anna, "vm.see.properties")
    assert (await api.call(reader, "GET", here.of("vm"))).status == 200
    assert (await api.call(reader, "GET", here.of("user"))).problem == "forbidden"
    assert (await api.call(reader, "PUT", here.of("vm", "key"), {"value": "x"})).problem == "forbidden"


@asynchronous
async def test_what_is_defined_for_all_is_hidden_from_a_tenants_administrators(api: ApiWorld) -> None:
    here = things(api, api.acme)
    await define(api, "rack", api.boss, tenant_id=0, kinds=["host", "vm"])
    for kind in ("host", "vm"):
        reply = await api.call(api.boss, "PUT", here.of(kind, "rack"), {"value": "7"})
        assert values(reply) == {"rack": "7"}
    for path in (here.of("vm"), here.of("vm") + "?effective=true"):
        assert values(await api.call(api.anna, "GET", path)) == {}
    assert (await api.call(api.anna, "PUT", here.of("vm", "rack"), {"value": "8"})).problem == "reference-not-found"
    assert (await api.call(api.anna, "DELETE", here.of("vm", "rack"))).status == 404
    rows = api.ask("SELECT tenant_id FROM audit WHERE action = 'vm.set-property' AND outcome = 'done'")
    assert rows == [{"tenant_id": 0}]
    # Where there is one tenant only, nothing is hidden.
    alone = evolve(api.anna, multitenant=False)
    assert values(await api.call(alone, "GET", here.of("vm"))) == {"rack": "7"}
    await define(api, "slot", alone, kinds=["host"])
    assert values(await api.call(alone, "PUT", here.of("host", "slot"), {"value": "3"})) == {"rack": "7", "slot": "3"}


@asynchronous
async def test_objects_that_all_share(api: ApiWorld) -> None:
    await define(api, "mine", kinds=["osf"])
    await define(api, "all", api.boss, tenant_id=0, kinds=["osf"])
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (-1, 'shared', 1000)")
    path = f"/osfs/{osf}/properties"
    assert values(await api.call(api.boss, "PUT", f"{path}/all", {"value": "x"})) == {"all": "x"}
    assert (await api.call(api.anna, "GET", path)).status == 200
    assert (await api.call(api.anna, "PUT", f"{path}/mine", {"value": "x"})).problem == "forbidden"
    assert (await api.call(api.boss, "PUT", f"{path}/mine", {"value": "x"})).problem == "reference-not-found"


@asynchronous
async def test_placement_rules_are_checked(api: ApiWorld) -> None:
    here = things(api, api.acme)
    rule = here.of("vm", "qvd.placement.require")
    assert values(await api.call(api.anna, "PUT", rule, {"value": "gpu=yes"})) == {"qvd.placement.require": "gpu=yes"}
    assert (await api.call(api.anna, "PUT", rule, {"value": "gpu"})).problem == "invalid-value"
    assert (await api.call(api.anna, "PUT", here.of("vm", "qvd.nothing"), {"value": "x"})).problem == "invalid-value"
    assert (await api.call(api.boss, "PUT", here.of("host", "qvd.placement.require"), {"value": ""})).status == 422


@pytest.mark.acceptance(18)
@asynchronous
async def test_what_a_vm_has_in_the_end_is_what_its_node_reads(api: ApiWorld) -> None:
    """OSF, image, user, VM: the later wins, here as there."""
    here = things(api, api.acme)
    await define(api, "layer")
    dsn = psycopg2.extensions.make_dsn(api.dsn, user="qvd_node")
    node = Pool(api.services.reactor, dsn, size=1, deadline=10.0, rng=Random(1))
    await node.start()
    vm_id, vms = VMId(here.ids["vm"]), VMs(node, Weights(), lambda: 0.5)
    for kind in ("osf", "di", "user", "vm"):
        await api.call(api.anna, "PUT", here.of(kind, "layer"), {"value": f"of the {kind}"})
        await api.call(api.anna, "PUT", here.of(kind, "qvd.placement.prefer"), {"value": f"layer={kind}"})
        await api.call(api.anna, "PUT", here.of(kind, "qvd.placement.apart"), {"value": "layer"})
        seen = await api.call(api.anna, "GET", here.of("vm") + "?effective=true")
        assert {(each["key"], each["origin"]) for each in seen.body["items"]} == {
            ("layer", kind),
            ("qvd.placement.apart", kind),
            ("qvd.placement.prefer", kind),
        }
        assert values(seen)["layer"] == f"of the {kind}"
        wanted = await node.transact("test", lambda tx: wanted_for(tx, vm_id))
        assert (wanted.prefer, wanted.apart) == ({"layer": kind}, {"layer": values(seen)["layer"]})
        told = await vms.properties(vm_id)
        assert told == values(seen), "and what its guest is told"
    await node.stop()


@asynchronous
async def test_values_are_not_lost_by_mistake(api: ApiWorld) -> None:
    here, there = things(api, api.acme), things(api, api.rival)
    mine, theirs = await define(api, "key"), await define(api, "key", api.rick)
    await api.call(api.anna, "PUT", here.of("vm", "key"), {"value": "a"})
    await api.call(api.anna, "PUT", here.of("user", "key"), {"value": "a"})
    await api.call(api.rick, "PUT", there.of("vm", "key"), {"value": "b"})
    path = f"/properties/{mine}"
    assert (await api.call(api.anna, "GET", path)).body["values"] == {"vm": 1, "user": 1, "osf": 0, "di": 0}
    for method, end, body in (("DELETE", "", None), ("DELETE", "/kinds/vm", None), ("PATCH", "", {"type": "integer"})):
        refused = await api.call(api.anna, method, path + end, body)
        assert (refused.status, refused.problem, refused.body["values"]["vm"]) == (409, "has-dependents", 1)
    detached = await api.call(api.anna, "DELETE", f"{path}/kinds/vm?force=true")
    assert detached.body["kinds"] == ["user", "osf", "di"]
    assert [row["value"] for row in api.ask("SELECT value FROM vm_properties")] == ["b"]
    assert (await api.call(api.anna, "PUT", here.of("vm", "key"), {"value": "a"})).problem == "reference-not-found"
    assert (await api.call(api.anna, "DELETE", f"{path}?force=true")).status == 204
    assert api.ask("SELECT value FROM user_properties") == []
    assert (await api.call(api.rick, "GET", f"/properties/{theirs}")).body["values"]["vm"] == 1


@asynchronous
async def test_who_has_a_value_and_who_has_none(api: ApiWorld) -> None:
    here = things(api, api.acme)
    things(api, api.rival)
    number = await define(api, "key", type="integer", kinds=["user"])
    others = [api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"u{each}") for each in range(3)]
    await api.call(api.anna, "PUT", here.of("user", "key"), {"value": 5})
    path = f"/properties/{number}/values?kind=user"
    have = (await api.call(api.anna, "GET", path)).body
    assert have == {"items": [{"id": here.ids["user"], "name": "alice", "value": 5, "is_set": True}], "next": None}
    first = (await api.call(api.anna, "GET", f"{path}&missing=true&limit=2")).body
    rest = (await api.call(api.anna, "GET", f"{path}&missing=true&limit=2&cursor={first['next']}")).body
    assert [each["id"] for each in first["items"] + rest["items"]] == others
    assert (await api.call(api.anna, "GET", f"/properties/{number}/values?kind=vm")).body["items"] == []
    assert (await api.call(api.anna, "GET", f"/properties/{number}/values")).status == 400
    assert (await api.call(api.rick, "GET", path)).status == 404
    assert (await api.call(api.with_only(api.anna, "vm.see.properties"), "GET", path)).problem == "forbidden"


@asynchronous
async def test_a_guest_is_told_no_secret(api: ApiWorld) -> None:
    here, there = things(api, api.acme), things(api, api.rival)
    await define(api, "pin", type="secret")
    await define(api, "pin", api.rick)
    await define(api, "seed", api.boss, tenant_id=0, type="secret")
    for kind in ("osf", "vm"):
        await api.call(api.anna, "PUT", here.of(kind, "pin"), {"value": "1234"})
    await api.call(api.boss, "PUT", here.of("vm", "seed"), {"value": "abcd"})
    await api.call(api.anna, "PUT", here.of("user", "qvd.client.link"), {"value": "lan"})
    await api.call(api.rick, "PUT", there.of("vm", "pin"), {"value": "no secret there"})
    dsn = psycopg2.extensions.make_dsn(api.dsn, user="qvd_node")
    node = Pool(api.services.reactor, dsn, size=1, deadline=10.0, rng=Random(1))
    await node.start()
    vms = VMs(node, Weights(), lambda: 0.5)
    assert await vms.properties(VMId(here.ids["vm"])) == {"qvd.client.link": "lan"}
    assert await vms.properties(VMId(there.ids["vm"])) == {"pin": "no secret there"}
    assert await vms.properties(VMId(999999)) == {}
    await node.stop()
