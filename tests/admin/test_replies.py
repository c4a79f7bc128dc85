"""Requests that are sent again."""

from __future__ import annotations

import pytest
from twisted.internet.defer import gatherResults

from qvd.admin.replies import KeptReplies
from qvd.db.replies import Replies
from tests.admin.logins import Client
from tests.admin.test_login import logged_in
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, spawn

KEY = {"Idempotency-Key": "one"}


def keep(world: ApiWorld) -> None:
    world.services.replies = KeptReplies(Replies(world.pool))


@pytest.mark.acceptance(12)
@asynchronous
async def test_sent_again(api: ApiWorld) -> None:
    """Point 12 of the acceptance checklist; L{test_two_at_a_time} is the hard part of it."""
    keep(api)
    first = await api.call(api.anna, "POST", "/users", {"name": "alice"}, KEY)
    again = await api.call(api.anna, "POST", "/users", {"name": "alice"}, KEY)
    assert (first.status, again) == (201, first)
    assert len(api.trail()) == 1
    other = await api.call(api.anna, "POST", "/users", {"name": "bob"}, KEY)
    assert (other.status, other.problem) == (422, "idempotency-mismatch")
    # Keys belong to their callers.
    assert (await api.call(api.rick, "POST", "/users", {"name": "alice"}, KEY)).status == 201
    assert len(api.ask("SELECT id FROM users")) == 2


@asynchronous
async def test_what_failed_may_be_tried_again(api: ApiWorld) -> None:
    keep(api)
    made = await api.call(api.anna, "POST", "/users", {"name": "alice"})
    taken = await api.call(api.anna, "POST", "/users", {"name": "alice"}, KEY)
    assert taken.problem == "already-exists"
    await api.call(api.anna, "DELETE", f"/users/{made.body['id']}")
    assert (await api.call(api.anna, "POST", "/users", {"name": "alice"}, KEY)).status == 201


@pytest.mark.acceptance(12)
@asynchronous
async def test_two_at_a_time(api: ApiWorld) -> None:
    keep(api)

    async def make(name: str, key: str) -> tuple[int, object]:
        reply = await api.call(api.anna, "POST", "/users", {"name": name}, {"Idempotency-Key": key})
        return reply.status, reply.body

    for n in range(5):
        first, second, third = await gatherResults([spawn(make(f"user{n}", f"key{n}")) for _ in range(3)])
        assert first[0] == 201 and first == second == third
    assert len(api.ask("SELECT id FROM users")) == 5
    assert len(api.trail()) == 5


@asynchronous
async def test_two_at_a_time_of_what_has_no_names(api: ApiWorld) -> None:
    """The key alone keeps them apart."""
    keep(api)
    made = await api.call(api.anna, "POST", "/users", {"name": "alice"})
    path = f"/users/{made.body['id']}/block"
    await gatherResults([spawn(api.call(api.anna, "POST", path, None, KEY)) for _ in range(4)])
    assert [each["action"] for each in api.trail()] == ["user.create", "user.block"]


@asynchronous
async def test_kept_for_a_day(api: ApiWorld) -> None:
    keep(api)
    await api.call(api.anna, "POST", "/users", {"name": "alice"}, KEY)
    api.ask("UPDATE replies SET at = now() - interval '24 hours 1 second'")
    assert (await api.call(api.anna, "POST", "/users", {"name": "bob"}, KEY)).status == 201
    api.ask("UPDATE replies SET at = now() - interval '24 hours 1 second'")
    await api.call(api.anna, "POST", "/users", {"name": "carol"}, {"Idempotency-Key": "two"})
    assert [row["key"] for row in api.ask("SELECT key FROM replies")] == ["two"]


@asynchronous
async def test_keys(api: ApiWorld) -> None:
    keep(api)
    for key in ("x" * 201, "a\0b"):
        reply = await api.call(api.anna, "POST", "/users", {"name": "alice"}, {"Idempotency-Key": key})
        assert reply.problem == "malformed-request"


@asynchronous
async def test_secrets_are_not_kept(logins: ApiWorld) -> None:
    keep(logins)
    client: Client = await logged_in(logins)
    row = logins.ask("SELECT now() + interval '1 day' AS tomorrow")[0]
    body = {"name": "script", "scopes": ["*"], "expires_at": row["tomorrow"]}
    first = await client.call("POST", "/me/tokens", body, KEY)
    assert first.status == 201
    again = await client.call("POST", "/me/tokens", body, KEY)
    assert (again.status, again.problem) == (409, "conflict")
    assert len(logins.ask("SELECT id FROM administrator_tokens")) == 1
    [kept] = logins.ask("SELECT convert_from(body, 'UTF8') || headers::text AS text FROM replies")
    assert first.body["token"] not in kept["text"]
    renewed = await client.call(
        "POST", "/auth/reauthenticate", {"password": "anna's password"}, {"Idempotency-Key": "r"}
    )
    assert renewed.status == 200
    assert client.cookie not in str(logins.ask("SELECT convert_from(body, 'UTF8') || headers::text AS t FROM replies"))
