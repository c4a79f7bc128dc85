"""The audit trail, as those see it who may: acceptance point 22."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from qvd.db import audit
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


async def some_history(api: ApiWorld) -> tuple[int, int]:
    """Users of acme and of rival, and what was done to them."""
    made = await api.call(api.anna, "POST", "/users", {"name": "alice", "description": "tall"})
    alice = made.body["id"]
    await api.call(api.boss, "PATCH", f"/users/{alice}", {"blocked": True})
    ruth = (await api.call(api.rick, "POST", "/users", {"name": "ruth"})).body["id"]
    await api.call(api.anna, "DELETE", f"/users/{ruth}")
    await api.call(api.boss, "PATCH", f"/tenants/{api.rival}", {"description": "x"}, {"If-Match": "*"})
    return alice, ruth


def told(items: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(each[name] for name in names) for each in items]


@pytest.mark.acceptance(22)
@asynchronous
async def test_a_tenants_administrators_see_what_is_theirs(api: ApiWorld) -> None:
    alice, ruth = await some_history(api)
    mine = (await api.call(api.anna, "GET", "/log")).body["items"]
    assert told(mine, "action", "outcome", "administrator_name", "object_id", "client_address") == [
        ("user.delete", "denied", "anna", ruth, "127.0.0.1"),
        ("user.update", "done", "administrator of the installation", alice, None),
        ("user.create", "done", "anna", alice, "127.0.0.1"),
    ]
    assert mine[1]["administrator_id"] is None and mine[1]["request_id"] is None
    assert "tenant_id" not in mine[0] and "before" not in mine[0]
    all_of_it = (await api.call(api.boss, "GET", "/log?count=true")).body
    assert all_of_it["page"]["total"] == 5
    assert told(all_of_it["items"], "administrator_name", "tenant_name") == [
        ("boss", "rival"),
        ("anna", "acme"),
        ("rick", "rival"),
        ("boss", "acme"),
        ("anna", "acme"),
    ]
    foreign = (await api.call(api.boss, "GET", "/log?action=user.create&administrator_name=rick")).body["items"][0][
        "id"
    ]
    assert (await api.call(api.anna, "GET", f"/log/{foreign}")).status == 404
    # Nor can they find out by asking.
    assert (await api.call(api.anna, "GET", "/log?administrator_name=boss")).body["items"] == []
    assert (await api.call(api.anna, "GET", f"/log?administrator_id={api.boss.administrator_id}")).body["items"] == []
    assert (await api.call(api.anna, "GET", "/log?tenant_id=1")).problem == "unknown-filter"
    alone = evolve(api.anna, multitenant=False)
    assert len((await api.call(alone, "GET", "/log")).body["items"]) == 5


@asynchronous
async def test_one_row(api: ApiWorld) -> None:
    await some_history(api)
    items = (await api.call(api.anna, "GET", "/log")).body["items"]
    changed = (await api.call(api.anna, "GET", f"/log/{items[1]['id']}")).body
    assert (changed["before"]["blocked"], changed["after"]["blocked"]) == (False, True)
    assert "tenant_id" not in changed["after"] and changed["arguments"] is None
    made = (await api.call(api.anna, "GET", f"/log/{items[2]['id']}")).body
    assert made["arguments"]["body"]["description"] == "tall"
    only = api.with_only(api.anna, "log.see-main.", "log.see-details.", "log.see.call-arguments", "user.see.block")
    seen = (await api.call(only, "GET", f"/log/{items[2]['id']}")).body
    assert set(seen["after"]) == {"id", "name", "blocked"}, "what they may not see of a user is not in the log either"
    assert seen["arguments"]["body"] == {"name": "alice"}
    assert "administrator_name" not in seen and "client_address" not in seen
    entry = api.with_only(api.anna, "log.see-main.")
    assert (await api.call(entry, "GET", f"/log/{items[2]['id']}")).problem == "forbidden"
    assert (await api.call(entry, "GET", "/log?fields=after")).problem == "forbidden-field"
    assert (await api.call(entry, "GET", "/log?administrator_name=anna")).problem == "forbidden-filter"
    assert (await api.call(api.with_only(api.anna, "user.see.log"), "GET", "/log")).problem == "forbidden"


@asynchronous
async def test_pages_filters_and_search(api: ApiWorld) -> None:
    for number in range(7):
        await api.call(api.anna, "POST", "/users", {"name": f"user{number}"})
    seen, cursor = [], ""
    while True:
        page = (await api.call(api.anna, "GET", f"/log?limit=3{cursor}")).body
        seen += [each["object_name"] for each in page["items"]]
        if page["page"]["next"] is None:
            break
        cursor = f"&cursor={page['page']['next']}"
    assert seen == [f"user{number}" for number in reversed(range(7))]
    where = {"field": "object_name", "op": "in", "value": ["user1", "user2"]}
    found = (await api.call(api.anna, "POST", "/log/search", {"filter": where})).body["items"]
    assert [each["object_name"] for each in found] == ["user2", "user1"]
    first_at = api.ask("SELECT at FROM audit ORDER BY id LIMIT 1")[0]["at"].isoformat().replace("+", "%2B")
    after = (await api.call(api.anna, "GET", f"/log?at[gt]={first_at}")).body["items"]
    assert len(after) == 6
    assert len(api.trail()) == 7, "reading and searching leave no rows"


@asynchronous
async def test_facets_and_histogram(api: ApiWorld) -> None:
    await some_history(api)
    facets = (await api.call(api.anna, "GET", "/log/facets")).body["facets"]
    assert {each["value"]: each["count"] for each in facets["action"]} == {
        "user.create": 1,
        "user.update": 1,
        "user.delete": 1,
    }
    assert facets["administrator_name"] == [
        {"value": "anna", "count": 2},
        {"value": "administrator of the installation", "count": 1},
    ]
    narrowed = (await api.call(api.anna, "GET", "/log/facets?outcome=done")).body["facets"]
    assert narrowed["outcome"] == [{"value": "done", "count": 2}]
    nameless = api.with_only(api.anna, "log.see-main.")
    assert "administrator_name" not in (await api.call(nameless, "GET", "/log/facets")).body["facets"]
    histogram = (await api.call(api.anna, "GET", "/log/histogram?bucket=month&outcome=done")).body
    assert [each["count"] for each in histogram["items"]] == [2]
    assert (await api.call(api.anna, "GET", "/log/histogram?bucket=second")).status == 400
    api.ask("UPDATE audit SET at = at - interval '100 days' WHERE action = 'user.create'")
    months = {"": 1, "at[lt]=2999-01-01T00:00:00Z": 2}
    for when, count in months.items():
        found = (await api.call(api.anna, "GET", f"/log/histogram?outcome=done&{when}")).body["items"]
        assert len(found) == count


@asynchronous
async def test_the_log_of_one_object(api: ApiWorld) -> None:
    alice, ruth = await some_history(api)
    path = f"/users/{alice}/log"
    reader = api.with_only(api.anna, "user.see.log")
    assert told((await api.call(reader, "GET", path)).body["items"], "action") == [("user.update",), ("user.create",)]
    assert told((await api.call(reader, "GET", f"{path}?action=user.create")).body["items"], "action") == [
        ("user.create",)
    ]
    assert (await api.call(api.anna, "GET", f"/users/{ruth}/log")).status == 404
    assert (await api.call(api.with_only(api.anna, "log.see-main."), "GET", path)).problem == "forbidden"
    assert (await api.call(api.anna, "GET", f"/tenants/{api.acme}/log")).status == 404
    assert len((await api.call(api.boss, "GET", f"/tenants/{api.rival}/log")).body["items"]) == 1


@asynchronous
async def test_how_long_it_is_kept(api: ApiWorld) -> None:
    assert (await api.call(api.boss, "GET", "/log/retention")).body["days"] == 730
    changed = await api.call(api.boss, "PUT", "/log/retention", {"days": 90})
    assert (changed.body["days"], changed.body["hold"]) == (90, False)
    for wrong in ({"days": 1}, {"hold": True}, {"hold": True, "hold_reason": " "}, {"days": "x"}, {"other": 1}):
        assert (await api.call(api.boss, "PUT", "/log/retention", wrong)).status == 422
    held = await api.call(api.boss, "PUT", "/log/retention", {"hold": True, "hold_reason": "a lawsuit", "days": None})
    assert held.body | {"oldest": ""} == {
        "days": None,
        "hold": True,
        "hold_reason": "a lawsuit",
        "oldest": "",
        "rows_purged": 0,
    }
    for method, path in (("GET", "/log/retention"), ("PUT", "/log/retention"), ("POST", "/log/retention/run")):
        assert (await api.call(api.anna, method, path, {} if method == "PUT" else None)).problem == "superadmin-only"
    stale = evolve(api.boss, fresh=False)
    assert (await api.call(stale, "PUT", "/log/retention", {"days": 30})).problem == "reauthentication-required"
    done = [each for each in api.trail() if each["action"] == "log.set-retention" and each["outcome"] == "done"]
    assert (done[0]["before"]["days"], done[0]["after"]["days"]) == (730, 90)


@pytest.mark.acceptance(22)
@pytest.mark.parametrize("hold", [False, True])
@asynchronous
async def test_old_rows_go_and_the_trail_stays_whole(api: ApiWorld, hold: bool) -> None:
    for number in range(3):
        await api.call(api.anna, "POST", "/users", {"name": f"user{number}"})
    api.ask(
        "DO $$ DECLARE r audit; last bytea := ''; BEGIN UPDATE audit SET at = at - interval '3 years' WHERE id < 3;"
        " FOR r IN SELECT * FROM audit ORDER BY id LOOP last := audit_hash(last, r.id, r.at, r.entry);"
        " UPDATE audit SET hash = last WHERE id = r.id; END LOOP; UPDATE audit_head SET hash = last; END $$"
    )
    if hold:
        await api.call(api.boss, "PUT", "/log/retention", {"hold": True, "hold_reason": "a lawsuit"})
    reply = await api.call(api.boss, "POST", "/log/retention/run")
    assert reply.body == {"removed": 0 if hold else 2, "more": False}
    assert audit.verify(api.dsn).fault is None
    await api.call(api.anna, "POST", "/users", {"name": "later"})
    verdict = audit.verify(api.dsn)
    assert (verdict.rows, verdict.fault) == (6 if hold else 3, None)
    assert [each["action"] for each in api.trail()][-2:] == ["log.purge", "user.create"]
    if not hold:
        assert (await api.call(api.boss, "GET", "/log/retention")).body["rows_purged"] == 2
        api.ask("DELETE FROM audit WHERE id = 3")
        fault = audit.verify(api.dsn).fault
        assert fault is not None and fault.row == 3
