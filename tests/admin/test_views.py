"""Columns and filters of lists."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.admin.api import all_collections
from qvd.admin.resources.views import FIRST, is_column
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

MINE, ALL = "/me/views/user", "/views/user"


def columns(reply: Reply) -> tuple[list[str], str]:
    assert reply.status == 200, reply.body
    return reply.body["columns"], reply.body["origin"]


@asynchronous
async def test_the_nearest_choice_counts(api: ApiWorld) -> None:
    first, origin = columns(await api.call(api.anna, "GET", MINE))
    assert origin == "default" and first[:3] == ["name", "description", "blocked"]
    assert columns(await api.call(api.anna, "PUT", ALL, {"columns": ["name"]})) == (["name"], "tenant")
    assert columns(await api.call(api.anna, "GET", MINE)) == (["name"], "tenant")
    chosen = await api.call(api.anna, "PUT", MINE, {"columns": ["blocked", "name"], "filters_mobile": []})
    assert columns(chosen) == (["blocked", "name"], "own")
    assert chosen.body["filters_mobile"] == [] and chosen.body["filters_desktop"]
    kept = await api.call(api.anna, "PUT", MINE, {"filters_desktop": ["name"]})
    assert columns(kept) == (["blocked", "name"], "own"), "what is not named stays"
    assert columns(await api.call(api.rick, "GET", MINE)) == (first, "default")
    assert columns(await api.call(api.boss, "GET", f"{ALL}?tenant_id={api.acme}")) == (["name"], "tenant")
    assert columns(await api.call(api.anna, "DELETE", MINE)) == (["name"], "tenant")
    assert columns(await api.call(api.anna, "DELETE", ALL)) == (first, "default")
    assert api.ask("SELECT * FROM views") == []
    trail = api.trail()
    assert [each["action"] for each in trail] == [
        "view.set",
        "view.set-own",
        "view.set-own",
        "view.reset-own",
        "view.reset",
    ]
    assert (trail[0]["before"]["columns"], trail[0]["after"]["columns"]) == (first, ["name"])


@asynchronous
async def test_two_administrators_do_not_disturb_each_other(api: ApiWorld) -> None:
    other = api.administrator("adam", api.acme, "acme")
    await api.call(api.anna, "PUT", MINE, {"columns": ["name"]})
    await api.call(other, "PUT", MINE, {"columns": ["blocked"]})
    assert columns(await api.call(api.anna, "GET", MINE))[0] == ["name"]
    assert columns(await api.call(other, "GET", MINE))[0] == ["blocked"]


@asynchronous
async def test_what_somebody_may_not_see_is_no_column(api: ApiWorld) -> None:
    await api.call(api.anna, "PUT", ALL, {"columns": ["name", "description", "property:cost"]})
    reader = api.with_only(api.anna, "user.see-main.", "user.see.description")
    assert columns(await api.call(reader, "GET", MINE))[0] == ["name", "description"]
    assert (await api.call(reader, "PUT", MINE, {"columns": ["blocked"]})).problem == "invalid-value"
    assert (await api.call(reader, "PUT", MINE, {"columns": ["property:cost"]})).problem == "invalid-value"
    everything = (await api.call(reader, "GET", "/me/views")).body["items"]
    assert [each["section"] for each in everything] == ["user"]
    assert (await api.call(reader, "GET", "/me/views/property")).status == 404
    assert (await api.call(api.anna, "GET", "/me/views/tenant")).status == 404
    assert "tenant" in [each["section"] for each in (await api.call(api.boss, "GET", "/me/views")).body["items"]]


@pytest.mark.parametrize(
    "body",
    [
        {"columns": ["password"]},
        {"columns": ["nothing"]},
        {"columns": ["tenant_id"]},
        {"columns": ["name", "name"]},
        {"columns": ["property:"]},
        {"filters_desktop": ["number_of_vms"]},
        {"columns": [1]},
        {"columns": ["name"] * 101},
        {"rows": []},
    ],
)
@asynchronous
async def test_choices_that_are_none(api: ApiWorld, body: dict[str, Any]) -> None:
    assert (await api.call(api.anna, "PUT", MINE, body)).status == 422
    assert api.ask("SELECT * FROM views") == []


@pytest.mark.acceptance(3)
@asynchronous
async def test_who_may_choose_for_others(api: ApiWorld) -> None:
    some = api.with_only(api.anna, "user.see-main.", "views.update.filters-mobile")
    assert (await api.call(some, "GET", ALL)).problem == "forbidden"
    assert (await api.call(some, "PUT", ALL, {"columns": ["name"]})).problem == "forbidden-attribute"
    assert (await api.call(some, "PUT", ALL, {"filters_mobile": ["name"]})).status == 200
    assert (await api.call(some, "DELETE", ALL)).problem == "forbidden"
    assert (await api.call(api.anna, "GET", f"{ALL}?tenant_id={api.rival}")).problem == "unknown-filter"
    assert (await api.call(api.boss, "PUT", f"{ALL}?tenant_id=99999", {"columns": []})).problem == "reference-not-found"
    assert (await api.call(api.boss, "PUT", f"{ALL}?tenant_id={api.acme}", {"columns": ["name"]})).status == 200
    assert columns(await api.call(api.anna, "GET", MINE))[0] == ["name"]


def test_suggested_columns_are_fields_of_lists() -> None:
    for collection in all_collections().values():
        resource = collection.resource
        assert len(resource.columns) <= FIRST
        for name in resource.columns:
            field = resource.get(name)
            assert field is not None and is_column(field), (resource.name, name)
