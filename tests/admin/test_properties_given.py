"""Properties where objects are made and changed, and as filters of lists."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.test_properties import define, things, values
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous


def in_list(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [each["name"] for each in reply.body["items"]]


@asynchronous
async def test_objects_are_made_and_changed_with_properties(api: ApiWorld) -> None:
    here = things(api, api.acme)
    await define(api, "cost", type="integer")
    await define(api, "pin", type="secret")
    base: dict[str, dict[str, Any]] = {
        "users": {"name": "bea"},
        "osfs": {"name": "office", "memory": 512 << 20},
        "vms": {"name": "two", "user_id": here.ids["user"], "osf_id": here.ids["osf"]},
    }
    for collection, body in base.items():
        kind = collection[:-1]
        given = {"cost": "7", "pin": "1234", "qvd.client.link": "lan"}
        made = await api.call(api.anna, "POST", f"/{collection}", {**body, "properties": given})
        assert made.status == 201, made.body
        path = f"/{collection}/{made.body['id']}"
        held = values(await api.call(api.anna, "GET", f"{path}/properties"))
        assert held == {"cost": 7, "pin": None, "qvd.client.link": "lan"}
        row = api.trail()[-1]
        assert row["after"]["properties"] == {"cost": "7", "pin": "***", "qvd.client.link": "lan"}
        assert row["arguments"]["body"]["properties"] == {"cost": "***", "pin": "***", "qvd.client.link": "***"}
        changes = {"properties": {"cost": 8, "pin": None}, "description": "d"}
        changed = await api.call(api.anna, "PATCH", path, changes, {"If-Match": "*"})
        assert changed.status == 200, changed.body
        assert values(await api.call(api.anna, "GET", f"{path}/properties")) == {"cost": 8, "qvd.client.link": "lan"}
        row = api.trail()[-1]
        assert row["before"]["properties"] == {"cost": "7", "pin": "***"}
        assert (row["after"]["properties"], row["after"]["description"]) == ({"cost": "8"}, "d")
        maker = api.with_only(api.anna, f"{kind}.create.", "osf.create.memory")
        refused = await api.call(maker, "POST", f"/{collection}", {**body, "name": "x", "properties": {"cost": 1}})
        assert refused.problem == "forbidden-attribute"
        writer = api.with_only(api.anna, f"{kind}.update.description")
        refused = await api.call(writer, "PATCH", path, {"properties": {"cost": 1}}, {"If-Match": "*"})
        assert refused.problem == "forbidden-attribute"
    assert "1234" not in str(api.trail())


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"undefined": "x"}, "reference-not-found"),
        ({"cost": "x"}, "invalid-value"),
        ({"cost": 1.5}, "invalid-value"),
        ({"cost": {}}, "invalid-value"),
        ({"": 1}, "invalid-value"),
        ({"k" * 257: 1}, "invalid-value"),
        ({f"k{number}": 1 for number in range(101)}, "invalid-value"),
        ({"qvd.client.link": "lan,slave=1"}, "invalid-value"),
        ({"qvd.nothing": "x"}, "invalid-value"),
        ({"rack": "7"}, "reference-not-found"),
        ("x", "invalid-value"),
    ],
)
@asynchronous
async def test_properties_that_cannot_be_given_leave_nothing(api: ApiWorld, given: Any, problem: str) -> None:
    await define(api, "cost", type="integer")
    await define(api, "rack", api.boss, tenant_id=0)
    reply = await api.call(api.anna, "POST", "/users", {"name": "bea", "properties": given})
    assert reply.problem == problem
    body = {"name": "bea", "tenant_id": api.acme, "properties": {"rack": "7"}}
    theirs = await api.call(api.boss, "POST", "/users", body)
    assert theirs.problem == "invalid-value", "the tenant would read of it in its audit trail"
    assert api.ask("SELECT * FROM users WHERE login = 'bea'") == []


@asynchronous
async def test_nodes_and_images_have_theirs_as_well(api: ApiWorld) -> None:
    here = things(api, api.acme)
    await define(api, "rack", api.boss, tenant_id=0, kinds=["host"])
    await define(api, "line")
    body = {"name": "n9", "address": "192.0.2.9", "properties": {"rack": "3"}}
    host = await api.call(api.boss, "POST", "/hosts", body)
    assert host.status == 201, host.body
    assert in_list(await api.call(api.boss, "GET", "/hosts?property.rack=3")) == ["n9"]
    refused = await api.call(api.anna, "GET", "/hosts?property.rack=3")
    assert refused.problem in ("forbidden-filter", "superadmin-only")
    image = await api.call(api.anna, "PATCH", here.paths["di"], {"properties": {"line": "a"}}, {"If-Match": "*"})
    assert image.status == 200, image.body
    assert values(await api.call(api.anna, "GET", here.of("vm") + "?effective=true")) == {"line": "a"}
    found = await api.call(api.anna, "GET", "/images?property.line=a")
    assert [each["id"] for each in found.body["items"]] == [here.ids["di"]]


@asynchronous
async def test_lists_are_narrowed_by_properties(api: ApiWorld) -> None:
    there = things(api, api.rival)
    await define(api, "cost")
    await define(api, "cost", api.rick)
    await api.call(api.rick, "PUT", there.of("user", "cost"), {"value": "7"})
    for name, value in (("bea", "7"), ("carl", "8"), ("dora", "a,b"), ("eve", None)):
        body = {"name": name} | ({} if value is None else {"properties": {"cost": value}})
        assert (await api.call(api.anna, "POST", "/users", body)).status == 201

    async def found(query: str) -> list[str]:
        return in_list(await api.call(api.anna, "GET", f"/users?sort=name&{query}"))

    assert await found("property.cost=7") == ["bea"]
    assert await found("property.cost=7,8") == ["bea", "carl"]
    assert await found("property.cost[nin]=7,8&name[ne]=bea") == ["dora", "eve"]
    assert await found("name=carl&property.cost[ne]=7") == ["carl"]
    assert await found("property.cost[eq]=a,b") == ["dora"]
    assert await found("property.cost[prefix]=a") == ["dora"]
    assert await found("property.cost[null]=true") == ["eve"]
    assert await found("property.nothing=7") == []
    page = await api.call(api.anna, "GET", "/users?property.cost[null]=false&limit=2&sort=-name")
    assert (page.body["page"]["total"], in_list(page)) == (3, ["dora", "carl"])
    cursor = page.body["page"]["next"]
    rest = await api.call(api.anna, "GET", f"/users?property.cost[null]=false&sort=-name&cursor={cursor}")
    assert in_list(rest) == ["bea"]
    eight, eve = (
        {"field": name, "op": "eq", "value": value} for name, value in (("property.cost", "8"), ("name", "eve"))
    )
    searched = await api.call(api.anna, "POST", "/users/search", {"filter": {"or": [eight, eve]}, "sort": "name"})
    assert in_list(searched) == ["carl", "eve"]
    bulk = {"op": "block", "filter": {"field": "property.cost", "op": "in", "value": ["7", "8"]}}
    assert (await api.call(api.anna, "POST", "/users/bulk", bulk)).body["succeeded"] == 2
    for query, problem in (
        ("property.cost[gt]=7", "invalid-filter"),
        ("property.cost[like]=%5C", "invalid-filter"),
        ("property.=7", "unknown-filter"),
        ("property.a%00b=7", "unknown-filter"),
    ):
        assert (await api.call(api.anna, "GET", f"/users?{query}")).problem == problem
    assert (await api.call(api.anna, "GET", "/users?sort=property.cost")).problem == "invalid-sort"
    blind = api.with_only(api.anna, "user.see-main.")
    assert (await api.call(blind, "GET", "/users?property.cost=7")).problem == "forbidden-filter"
    assert (await api.call(api.anna, "GET", "/administrators?property.cost=7")).problem == "unknown-filter"


@asynchronous
async def test_no_filter_finds_out_what_is_hidden(api: ApiWorld) -> None:
    here = things(api, api.acme)
    await define(api, "pin", type="secret")
    await define(api, "rack", api.boss, tenant_id=0)
    await api.call(api.anna, "PUT", here.of("user", "pin"), {"value": "1234"})
    await api.call(api.boss, "PUT", here.of("user", "rack"), {"value": "7"})
    for key, value in (("pin", "1234"), ("rack", "7")):
        for operator in ("eq", "prefix", "like", "ilike", "in"):
            assert in_list(await api.call(api.anna, "GET", f"/users?property.{key}[{operator}]={value}")) == []
        assert in_list(await api.call(api.anna, "GET", f"/users?property.{key}[null]=true")) == ["alice"]
    assert in_list(await api.call(api.boss, "GET", "/users?property.rack=7")) == ["alice"]
    assert in_list(await api.call(api.boss, "GET", "/users?property.pin=1234")) == []


@asynchronous
async def test_many_get_a_property_but_no_secret(api: ApiWorld) -> None:
    here, there = things(api, api.acme), things(api, api.rival)
    await define(api, "cost")
    await define(api, "pin", type="secret")
    await define(api, "pin", api.rick)
    body: dict[str, Any] = {"op": "update", "ids": [here.ids["vm"]], "arguments": {"properties": {"cost": "7"}}}
    assert (await api.call(api.anna, "POST", "/vms/bulk", body)).body["succeeded"] == 1
    assert values(await api.call(api.anna, "GET", here.of("vm"))) == {"cost": "7"}
    body["arguments"] = {"properties": {"pin": "1234"}}
    assert (await api.call(api.anna, "POST", "/vms/bulk", body)).problem == "invalid-value"
    assert "1234" not in str(api.trail())
    body["ids"] = [there.ids["vm"]]
    done = await api.call(api.rick, "POST", "/vms/bulk", body)
    assert done.body["succeeded"] == 1, "that it is another tenant's secret is not told"
