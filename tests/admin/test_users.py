"""Users, and with them what all declared resources have."""

from __future__ import annotations

from tests.admin.canary import CANARY
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_make_read_change_delete(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", "/users", {"name": "alice", "password": "good", "description": "A"})
    assert made.status == 201, made.body
    assert made.body["name"] == "alice" and "password" not in made.body and "tenant_id" not in made.body
    path = f"/users/{made.body['id']}"
    assert made.headers["Location"] == f"/api/v1{path}"
    read = await api.call(api.anna, "GET", path)
    assert read.body == made.body and read.headers["ETag"] == made.headers["ETag"]
    changed = await api.call(api.anna, "PATCH", path, {"description": "B"}, {"If-Match": read.headers["ETag"]})
    assert (changed.status, changed.body["description"]) == (200, "B")
    stale = await api.call(api.anna, "PATCH", path, {"description": "C"}, {"If-Match": read.headers["ETag"]})
    assert (stale.status, stale.problem) == (412, "precondition-failed")
    gone = await api.call(api.anna, "DELETE", path)
    assert gone.status == 204
    assert (await api.call(api.anna, "GET", path)).status == 404
    trail = api.trail()
    assert [(each["action"], each["outcome"]) for each in trail] == [
        ("user.create", "done"),
        ("user.update", "done"),
        ("user.update", "failed"),
        ("user.delete", "done"),
    ]
    assert trail[0]["before"] is None and trail[0]["after"]["name"] == "alice"
    assert (trail[1]["before"]["description"], trail[1]["after"]["description"]) == ("A", "B")
    assert trail[0]["arguments"]["body"]["password"] == "***"
    assert "good" not in str(trail)


@asynchronous
async def test_another_tenants_user_is_absent(api: ApiWorld) -> None:
    made = await api.call(api.rick, "POST", "/users", {"name": "ruth"})
    path = f"/users/{made.body['id']}"
    absent = await api.call(api.anna, "GET", "/users/999999")
    for method, body in (("GET", None), ("PATCH", {"description": "x"}), ("DELETE", None)):
        found = await api.call(api.anna, method, path, body)
        assert found.body | {"instance": ""} == absent.body | {"instance": ""}
    assert (await api.call(api.anna, "GET", "/users")).body["items"] == []
    assert [each["name"] for each in (await api.call(api.boss, "GET", "/users")).body["items"]] == ["ruth"]


@asynchronous
async def test_pages(api: ApiWorld) -> None:
    for number in range(7):
        await api.call(api.anna, "POST", "/users", {"name": f"user{number}", "blocked": number % 2 == 0})
    path, seen = "/users?sort=-blocked,name&limit=3", []
    first = await api.call(api.anna, "GET", path)
    reply = first
    while True:
        seen += [each["name"] for each in reply.body["items"]]
        if reply.body["page"]["next"] is None:
            break
        reply = await api.call(api.anna, "GET", f"{path}&cursor={reply.body['page']['next']}")
    assert seen == ["user0", "user2", "user4", "user6", "user1", "user3", "user5"]
    assert reply.body["page"]["total"] == 7
    back = await api.call(api.anna, "GET", f"{path}&cursor={reply.body['page']['prev']}")
    assert [each["name"] for each in back.body["items"]] == ["user6", "user1", "user3"]
    assert [each["name"] for each in (await api.call(api.anna, "GET", f"{path}&page=2")).body["items"]] == [
        "user6",
        "user1",
        "user3",
    ]
    assert len((await api.call(api.anna, "GET", "/users?blocked=true&name[prefix]=user")).body["items"]) == 4


@asynchronous
async def test_permissions(api: ApiWorld) -> None:
    await api.call(api.anna, "POST", "/users", {"name": "alice", "description": "secret"})
    reader = api.with_only(api.anna, "user.see-main.")
    [seen] = (await api.call(reader, "GET", "/users")).body["items"]
    assert set(seen) == {"id", "name"}
    assert (await api.call(reader, "GET", "/users?description=secret")).problem == "forbidden-filter"
    assert (await api.call(reader, "GET", "/users?fields=description")).problem == "forbidden-field"
    assert (await api.call(reader, "GET", "/users?sort=blocked")).problem == "forbidden-sort"
    assert (await api.call(reader, "POST", "/users", {"name": "bob"})).problem == "forbidden"
    maker = api.with_only(api.anna, "user.create.")
    assert (await api.call(maker, "POST", "/users", {"name": "bob", "blocked": True})).problem == "forbidden-attribute"
    assert (await api.call(None, "GET", "/users")).problem == "credentials-required"
    assert (await api.call(api.anna, "GET", "/tenants")).status == 404


@asynchronous
async def test_no_user_belongs_to_all_tenants(api: ApiWorld) -> None:
    refused = await api.call(api.boss, "POST", "/users", {"name": "all", "tenant_id": -1})
    assert (refused.status, refused.problem) == (422, "reference-not-found")


@asynchronous
async def test_moments_of_any_offset(api: ApiWorld) -> None:
    for moment in ("0365-12-10T01:52:20-23:06", "2026-01-01T00:00:00%2B23:59", "9999-12-31T00:00:00Z"):
        assert (await api.call(api.anna, "GET", f"/users?created_at[ne]={moment}")).status == 200, moment
    for moment in ("0001-01-01T00:00:00%2B23:00", "9999-12-31T23:59:59-23:00", "2026-01-01T00:00:00", "x"):
        assert (await api.call(api.anna, "GET", f"/users?created_at[ne]={moment}")).problem == "invalid-filter", moment


@asynchronous
async def test_filters_that_postgresql_would_not_take(api: ApiWorld) -> None:
    await api.call(api.anna, "POST", "/users", {"name": "alice"})
    for query in ("name[like]=a%5C", "name[ilike]=%5C%5C%5C", "created_at[gt]=0001-01-01T00:00:00%2B23:59"):
        assert (await api.call(api.anna, "GET", f"/users?{query}")).problem == "invalid-filter"
    for query in ("name[like]=%5C%5C", "created_at[lt]=2000-01-01T00:00:00%2B23:59"):
        assert (await api.call(api.anna, "GET", f"/users?{query}")).body["items"] == []


@asynchronous
async def test_an_id_that_is_too_large_is_absent_and_in_the_trail(api: ApiWorld) -> None:
    absent = await api.call(api.anna, "DELETE", "/users/2000000000")
    for number in ("2147483648", "35737624595171807638585344", "9" * 5000):
        found = await api.call(api.anna, "DELETE", f"/users/{number}")
        assert (found.status, found.problem) == (absent.status, absent.problem)
    assert [each["object_id"] for each in api.trail()] == [2000000000, None, None, None]


@asynchronous
async def test_the_last_page_that_there_can_be(api: ApiWorld) -> None:
    assert (await api.call(api.anna, "GET", "/users?page=1000000&limit=500")).body["items"] == []
    assert (await api.call(api.anna, "POST", "/users/search", {"page": 1000000, "limit": 500})).body["items"] == []
    assert (await api.call(api.anna, "GET", "/users?page=1000001")).problem == "malformed-request"
    for page in (1000001, 1 << 60, -1):
        assert (await api.call(api.anna, "POST", "/users/search", {"page": page})).problem == "invalid-value"


@asynchronous
async def test_password(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", "/users", {"name": "alice"})
    path = f"/users/{made.body['id']}/password"
    assert (await api.call(api.anna, "PUT", path, {"password": f"{CANARY} new"})).status == 204
    [row] = api.ask("SELECT password FROM users")
    assert row["password"] == await api.services.hasher.hash(f"{CANARY} new")
    assert (await api.call(api.anna, "PUT", path, {"password": ""})).status == 422
    assert (await api.call(api.rick, "PUT", path, {"password": "taken"})).status == 404
    weak = api.with_only(api.anna, "user.update.name", "user.update.description", "user.create.")
    assert (await api.call(weak, "PUT", path, {"password": "taken"})).body["acl"] == "user.update.password"
    assert api.ask("SELECT password FROM users") == [row]
    last = api.trail()[1]
    assert (last["action"], last["outcome"], last["object_name"]) == ("user.password", "done", "alice")
    assert last["arguments"]["body"] == {"password": "***"}
