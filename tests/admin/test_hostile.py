"""Calls by people who hold credentials and mean no good."""

from __future__ import annotations

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
