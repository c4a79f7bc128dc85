"""Calls by people who hold credentials and mean no good."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_a_field_that_is_named_often_is_told_once(api: ApiWorld) -> None:
    """A name for each of a million bytes of body, in each of 500 rows, would keep all others waiting for a minute."""
    api.ask("INSERT INTO users (tenant_id, login) SELECT %s, 'user ' || n FROM generate_series(1, 500) n", api.acme)
    begun = api.services.reactor.seconds()
    found = await api.call(api.anna, "POST", "/users/search", {"fields": ["name", "id"] * 60_000, "limit": 500})
    assert found.status == 200
    assert found.body["items"][0].keys() == {"id", "name"}
    assert api.services.reactor.seconds() - begun < 5


@asynchronous
async def test_a_text_that_is_looked_for_has_a_bound(api: ApiWorld) -> None:
    for operator in ("eq", "like", "prefix"):
        condition = {"field": "description", "op": operator, "value": "%a" * 100_000}
        found = await api.call(api.anna, "POST", "/users/search", {"filter": condition})
        assert (found.status, found.problem) == (400, "invalid-filter")


@pytest.mark.parametrize("levels", [33, 900])
@asynchronous
async def test_a_deep_body_is_refused_and_in_the_trail(api: ApiWorld, levels: int) -> None:
    deep: Any = []
    for _ in range(levels):
        deep = [deep]
    made = await api.call(api.anna, "POST", "/roles", {"name": "deep", "roles": deep})
    assert made.status == 422
    (row,) = api.trail()
    assert (row["action"], row["outcome"]) == ("role.create", "failed")
    assert "..." in str(row["arguments"])


@asynchronous
async def test_a_secret_in_the_query_string_is_not_in_the_trail(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", "/users?password=hunter2&token=hunter2", {"name": "alice"})
    assert made.status == 400
    (row,) = api.trail()
    assert row["arguments"]["password"] == row["arguments"]["token"] == "***"
    assert "hunter2" not in str(row)


@asynchronous
async def test_a_large_body_is_in_the_trail_by_its_size(api: ApiWorld) -> None:
    ids = list(range(1_000_000, 1_040_000))
    called = await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "ids": ids})
    assert called.status == 202
    (row,) = api.trail()
    assert row["arguments"]["body"] == "... (320067 bytes)"


@asynchronous
async def test_cursors_that_nobody_was_given(api: ApiWorld) -> None:
    for raw in (
        b"[" * 5000 + b"]" * 5000,
        b'["n","",{}]',
        b'["n","",1e99]',
        b'["n","",' + b"9" * 5000 + b"]",
        b'["n","name",1]',
        b'["x","",1]',
        b'{"n":1,"":2,"3":4}',
        b'"n1"',
        b"5",
        b"\xff",
    ):
        cursor = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        for text in (cursor, cursor[:-1] + "\u00e9"):
            found = await api.call(api.anna, "POST", "/users/search", {"cursor": text})
            assert (found.status, found.problem) == (400, "malformed-request"), raw


@asynchronous
async def test_a_cursor_of_another_tenants_object_shows_nothing_of_it(api: ApiWorld) -> None:
    """It says where to go on, and whose objects there are is asked anew."""
    for number in range(3):
        for tenant in (api.acme, api.rival):
            api.insert("users (tenant_id, login) VALUES (%s, %s)", tenant, f"user {number}")
    foreign = await api.call(api.rick, "GET", "/users?sort=name&limit=1")
    found = await api.call(api.anna, "GET", f"/users?sort=name&cursor={foreign.body['page']['next']}")
    mine = {row["id"] for row in api.ask("SELECT id FROM users WHERE tenant_id = %s", api.acme)}
    assert found.status == 200
    assert {each["id"] for each in found.body["items"]} <= mine
    assert found.body["page"]["total"] == 3


@asynchronous
async def test_many_stars_keep_nobody_waiting(api: ApiWorld) -> None:
    begun = api.services.reactor.seconds()
    found = await api.call(api.boss, "POST", "/roles/preview", {"grant": ["*" * 100] * 500})
    assert found.status == 200 and found.body["total"] > 100
    assert api.services.reactor.seconds() - begun < 5
