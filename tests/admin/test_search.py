"""Finding objects of all kinds."""

from __future__ import annotations

import pytest

from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous


def hits(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status == 200, reply.body
    return [(each["kind"], each["name"]) for each in reply.body["items"]]


@asynchronous
async def test_names_and_numbers(api: ApiWorld) -> None:
    made = [
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, name) for name in ("Alice", "malice", "bob")
    ]
    api.insert("users (tenant_id, login) VALUES (%s, 'alice of rival')", api.rival)
    api.insert("properties (tenant_id, key) VALUES (%s, 'alice_likes')", api.acme)
    assert set(hits(await api.call(api.anna, "GET", "/search?q=ALICE"))) == {
        ("user", "Alice"),
        ("user", "malice"),
        ("property", "alice_likes"),
    }
    assert hits(await api.call(api.anna, "GET", "/search?q=alice&kinds=property")) == [("property", "alice_likes")]
    assert ("user", "bob") in hits(await api.call(api.anna, "GET", f"/search?q={made[2]}"))
    assert hits(await api.call(api.anna, "GET", "/search?q=%25")) == []
    assert hits(await api.call(api.anna, "GET", "/search?q=e_l")) == [("property", "alice_likes")]
    assert len(hits(await api.call(api.boss, "GET", "/search?q=alice"))) == 4


@pytest.mark.acceptance(3)
@asynchronous
async def test_only_what_the_caller_may_see(api: ApiWorld) -> None:
    api.insert("users (tenant_id, login) VALUES (%s, 'acme fan')", api.acme)
    assert hits(await api.call(api.anna, "GET", "/search?q=acme")) == [("user", "acme fan")]
    assert ("tenant", "acme") in hits(await api.call(api.boss, "GET", "/search?q=acme"))
    nobody = api.with_only(api.anna, "vm.see-main.")
    assert hits(await api.call(nobody, "GET", "/search?q=acme")) == []
    assert (await api.call(None, "GET", "/search?q=acme")).status == 401


@asynchronous
async def test_how_much(api: ApiWorld) -> None:
    for number in range(4):
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"user{number}")
    some = await api.call(api.anna, "GET", "/search?q=user&limit=3")
    found = [name for kind, name in hits(some) if kind == "user"]
    assert found == ["user0", "user1", "user2"] and "user" in some.body["more"]
    for wrong in ("", "?q=", "?q=%20", "?q=a&limit=51", f"?q={'a' * 201}"):
        assert (await api.call(api.anna, "GET", f"/search{wrong}")).status == 400
