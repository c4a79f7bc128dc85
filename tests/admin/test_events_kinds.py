"""Events of each kind of objects: made, changed, deleted."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from qvd.admin.api import COLLECTIONS
from qvd.admin.collections import Collection
from qvd.admin.events.topics import WATCHED
from qvd.admin.resources.configuration import Configuration
from qvd.model.configuration import EXPIRING_DAYS, KEYS, MULTITENANT, Key, Level, Type
from tests.admin.canary import CANARY
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

SECRET = Key(name="trial.secret", type=Type.TEXT, default="", text="t", read_by="tests", secret=True)
ON_HOSTS = Key(name="trial.host", type=Type.TEXT, default="built in", text="t", read_by="tests", levels=tuple(Level))


@pytest.mark.acceptance(23)
@asynchronous
async def test_made_changed_deleted(api: ApiWorld, listening: Listening) -> None:
    """Through the API."""
    listener = await listening.open(api.anna, "users")
    made = await api.call(api.anna, "POST", "/users", {"name": "alice"})
    await listening.settled()
    user = made.body["id"]
    await api.call(api.anna, "PATCH", f"/users/{user}", {"description": "B"})
    await listening.settled()
    await api.call(api.anna, "DELETE", f"/users/{user}")
    await listening.settled()
    assert listener.briefs == [("added", user), ("changed", user), ("removed", user)]
    assert listener.changes[0].data["item"] == made.body
    assert listener.changes[1].data["item"]["description"] == "B"
    assert listener.changes[2].data == {"topic": "users", "kind": "user", "id": user}
    assert listener.events[0].name == "hello" and listener.events[0].data["topics"] == ["users"]


@pytest.mark.acceptance(23)
@asynchronous
async def test_each_kind(api: ApiWorld, listening: Listening) -> None:
    """Rows of each kind arrive once and in order."""
    topics = "users,test-vms,test-osfs,test-dis,test-hosts,test-sessions,tenants"
    boss = await listening.open(api.boss, topics)
    vm = listening.vm(api.acme, "one")
    [row] = api.ask("SELECT user_id, osf_id FROM vms WHERE id = %s", vm)
    user, osf = row["user_id"], row["osf_id"]
    di = api.insert(
        "dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, '', '1', 'published')", api.acme, osf
    )
    host = api.insert("hosts (name, address) VALUES ('node', '127.0.0.1')")
    tenant = api.insert("tenants (name) VALUES ('new')")
    session = api.ask(
        "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state)"
        " VALUES (gen_random_uuid(), %s, %s, %s, %s, 1, '', 'connecting') RETURNING id::text",
        *(api.acme, vm, user, host),
    )[0]["id"]
    await listening.settled()
    made = [("user", user), ("osf", osf), ("vm", vm), ("di", di), ("host", host), ("tenant", tenant)]
    told = {(each.data["kind"], each.data["id"]) for each in boss.changes if each.name == "added"}
    assert told == {*made, ("session", session)}
    assert len(boss.changes) == len(told)
    seen = len(boss.changes)
    api.ask("UPDATE hosts SET address = '127.0.0.2' WHERE id = %s", host)
    api.ask("UPDATE tenants SET description = 'x' WHERE id = %s", tenant)
    api.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'pilot', %s)", osf, di)
    api.ask("UPDATE vm_runtimes SET detail = 'x' WHERE vm_id = %s", vm)
    api.ask("UPDATE osfs SET memory = 2 WHERE id = %s", osf)
    api.ask("UPDATE users SET blocked = true WHERE id = %s", user)
    await listening.settled()
    order = [(each.data["kind"], each.data["id"]) for each in boss.changes[seen:]]
    assert order == [("host", host), ("tenant", tenant), ("di", di), ("vm", vm), ("osf", osf), ("user", user)]
    assert {each.name for each in boss.changes[seen:]} == {"changed"}
    seen = len(boss.changes)
    api.ask("DELETE FROM sessions WHERE id = %s", session)
    await listening.settled()
    api.ask("DELETE FROM vms WHERE id = %s", vm)
    api.ask("DELETE FROM di_tags WHERE osf_id = %s AND tag = 'pilot'", osf)
    api.ask("DELETE FROM dis WHERE id = %s", di)
    for table, key in (("osfs", osf), ("users", user), ("hosts", host), ("tenants", tenant)):
        api.ask(f"DELETE FROM {table} WHERE id = %s", key)
    await listening.settled()
    gone = [(each.data["kind"], each.data["id"]) for each in boss.changes[seen:] if each.name == "removed"]
    kinds = [("osf", osf), ("user", user), ("host", host), ("tenant", tenant)]
    assert gone == [("session", session), ("vm", vm), ("di", di), *kinds]
    assert [each for each in boss.changes[seen:] if each.name == "added"] == []


@pytest.mark.acceptance(23)
@asynchronous
async def test_administrators_roles_and_jobs(api: ApiWorld, listening: Listening) -> None:
    boss, anna, rick = [
        await listening.open(each, "administrators,roles,jobs") for each in (api.boss, api.anna, api.rick)
    ]
    role = (await api.call(api.anna, "POST", "/roles", {"name": "porter"})).body["id"]
    body = {"name": "ada", "password": CANARY, "roles": [role]}
    ada = (await api.call(api.anna, "POST", "/administrators", body)).body["id"]
    job = api.insert(
        "jobs (kind, tenant_id, administrator_id, administrator_name, acls, request_id, client_address, arguments)"
        " VALUES ('trial', %s, %s, 'ada', '{}', '', '', '{}')",
        *(api.acme, ada),
    )
    await listening.settled()
    kinds = [("role", role), ("administrator", ada), ("job", job)]
    api.ask("UPDATE roles SET description = 'x' WHERE id = %s", role)
    api.ask("UPDATE administrators SET description = 'x' WHERE id = %s", ada)
    api.ask("UPDATE jobs SET done = 5 WHERE id = %s", job)
    # A sign of life.
    api.ask("UPDATE jobs SET lease_until = NULL WHERE id = %s", job)
    await listening.settled()
    api.ask("DELETE FROM jobs WHERE id = %s", job)
    api.ask("DELETE FROM administrators WHERE id = %s", ada)
    api.ask("DELETE FROM roles WHERE id = %s", role)
    await listening.settled()
    told = [(each.name, each.data["kind"], each.data["id"]) for each in anna.changes]
    expected = [(op, *each) for op in ("added", "changed") for each in kinds]
    assert told == [*expected, *(("removed", *each) for each in reversed(kinds))]
    assert boss.briefs == anna.briefs and rick.changes == []
    assert all(CANARY.encode() not in each.request.written for each in listening.listeners)


@asynchronous
async def test_signs_of_life_are_no_changes(api: ApiWorld, listening: Listening) -> None:
    vm, host = listening.vm(api.acme, "one"), api.insert("hosts (name, address) VALUES ('node', '127.0.0.1')")
    api.ask("DELETE FROM outbox")
    api.ask("UPDATE vm_runtimes SET vma_ok_ts = now() WHERE vm_id = %s", vm)
    api.ask("UPDATE host_runtimes SET lease_until = now(), ok_ts = now(), idle_cpu = 3 WHERE host_id = %s", host)
    assert api.ask("SELECT * FROM outbox") == []
    api.ask("UPDATE vm_runtimes SET phase = 'boot' WHERE vm_id = %s", vm)
    api.ask("UPDATE host_runtimes SET state = 'running' WHERE host_id = %s", host)
    assert [row["kind"] for row in api.ask("SELECT kind FROM outbox ORDER BY seq")] == ["vm", "host"]


@asynchronous
async def test_all_collections_are_attached(api: ApiWorld) -> None:
    """Whoever adds a table of objects has its changes told: C{outbox_attach} in a migration, and C{WATCHED}."""
    found = {row["tgname"] for row in api.ask("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")}
    for kind in COLLECTIONS:
        resource = kind.resource
        assert resource.name in WATCHED, resource.name
        assert f"outbox_{resource.table}_{resource.name}" in found, resource.collection
        if kind.find is not Collection.find:
            assert kind.only is not Collection.only, f"{resource.name}: events are not narrowed as its lists are"


@pytest.mark.acceptance(23)
@asynchronous
async def test_properties(api: ApiWorld, listening: Listening) -> None:
    """Definitions are objects; a value is a part of its own, and of a property of all tenants others learn nothing."""
    anna, rick, boss = [await listening.open(each, "properties,users") for each in (api.anna, api.rick, api.boss)]
    user = (await api.call(api.anna, "POST", "/users", {"name": "alice"})).body["id"]
    made = await api.call(api.anna, "POST", "/properties", {"key": "badge", "kinds": ["user"], "type": "secret"})
    common = {"key": "contract", "kinds": ["user"], "tenant_id": 0}
    hidden = (await api.call(api.boss, "POST", "/properties", common)).body["id"]
    await listening.settled()
    number = made.body["id"]
    assert anna.briefs == [("added", user), ("added", number)] and rick.changes == []
    assert anna.changes[1].data["item"] == made.body
    assert boss.briefs == [*anna.briefs, ("added", hidden)]
    known = len(boss.changes)
    value = {"value": CANARY}
    assert (await api.call(api.anna, "PUT", f"/users/{user}/properties/badge", value)).status == 200
    await listening.settled()
    assert anna.briefs[2:] == [("changed", user)] == boss.briefs[known:]
    assert (await api.call(api.boss, "PUT", f"/users/{user}/properties/contract", {"value": "x"})).status == 200
    await listening.settled()
    assert len(anna.changes) == 3 and boss.briefs[known + 1 :] == [("changed", user)]
    await api.call(api.anna, "PATCH", f"/properties/{number}", {"description": "of the door"})
    await listening.settled()
    assert anna.changes[3].name == "changed" and anna.changes[3].data["item"]["description"] == "of the door"
    assert (await api.call(api.anna, "DELETE", f"/properties/{number}?force=true")).status == 204
    await listening.settled()
    assert sorted(anna.briefs[4:]) == [("changed", user), ("removed", number)] and rick.changes == []
    # Where there is a single tenant, nothing is hidden from its administrators.
    api.ask("INSERT INTO configs (tenant_id, key, value) VALUES (-1, %s, 'false')", MULTITENANT)
    alone = await listening.open(evolve(api.anna, multitenant=False), "users")
    api.ask("UPDATE user_properties SET value = 'y' WHERE user_id = %s", user)
    await listening.settled()
    assert alone.briefs == [("changed", user)]
    assert all(CANARY.encode() not in each.request.written for each in listening.listeners)


@pytest.mark.acceptance(23)
@asynchronous
async def test_values_of_each_kind(api: ApiWorld, listening: Listening) -> None:
    vm, host = listening.vm(api.acme, "one"), api.insert("hosts (name, address) VALUES ('node', '127.0.0.1')")
    [row] = api.ask("SELECT user_id, osf_id FROM vms WHERE id = %s", vm)
    di = api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '1')", api.acme, row["osf_id"])
    objects = {"user": row["user_id"], "vm": vm, "osf": row["osf_id"], "di": di, "host": host}
    boss = await listening.open(api.boss, "users,test-vms,test-osfs,test-dis,test-hosts")
    for sql in (
        "INSERT INTO {kind}_properties ({kind}_id, {tenant} key, value) VALUES ({id}, {acme} 'k', 'a')",
        "UPDATE {kind}_properties SET value = 'b' WHERE {kind}_id = {id}",
        "DELETE FROM {kind}_properties WHERE {kind}_id = {id}",
    ):
        known = len(boss.changes)
        for kind, number in objects.items():
            tenant = ("", "") if kind == "host" else ("tenant_id,", f"{api.acme},")
            api.ask(sql.format(kind=kind, id=number, tenant=tenant[0], acme=tenant[1]))
        await listening.settled()
        told = [(each.name, each.data["kind"], each.data["id"]) for each in boss.changes[known:]]
        assert told == [("changed", kind, number) for kind, number in objects.items()]


@pytest.mark.acceptance(23)
@asynchronous
async def test_log(api: ApiWorld, listening: Listening) -> None:
    """Each row to who sees it in the list, and as it is there."""
    anna, rick, boss = [await listening.open(each, "log") for each in (api.anna, api.rick, api.boss)]
    failed = await listening.open(api.anna, "log?outcome=failed&fields=action,problem")
    reader = evolve(api.with_only(api.anna, "log.see-main."), name="reader", session="reader")
    less = await listening.open(reader, "log")
    await api.call(api.anna, "POST", "/users", {"name": "alice", "password": CANARY})
    await listening.settled()
    await api.call(api.anna, "POST", "/users", {"name": "alice"})
    await api.call(api.boss, "POST", "/users", {"name": "bob", "tenant_id": api.acme})
    await listening.settled()
    listed = (await api.call(api.anna, "GET", "/log?sort=id")).body["items"]
    assert [each.data["item"] for each in anna.changes] == listed
    assert [each["action"] for each in listed] == ["user.create"] * 3
    assert [each.name for each in anna.changes] == ["added"] * 3 and rick.changes == []
    assert [each.data["id"] for each in boss.changes] == [each["id"] for each in listed]
    assert boss.changes[2].data["item"]["administrator_name"] == "boss"
    assert anna.changes[2].data["item"]["administrator_name"] != "boss"
    told = [each.data["item"] for each in failed.changes if each.name == "added"]
    assert told == [{"id": listed[1]["id"], "action": "user.create", "problem": "already-exists"}]
    assert all({"administrator_name", "after"}.isdisjoint(each.data["item"]) for each in less.changes)
    details = await listening.open(api.anna, "log?action=user.update&fields=action,before,after")
    await api.call(api.anna, "PATCH", f"/users/{listed[0]['object_id']}", {"description": "B"})
    await listening.settled()
    item = details.changes[0].data["item"]
    assert (item["before"]["description"], item["after"]["description"]) == ("", "B")
    assert set(item) == {"id", "action", "before", "after"}
    assert all(CANARY.encode() not in each.request.written for each in listening.listeners)
    refused = await api.call(reader, "GET", "/events?topics=log?fields=after")
    assert refused.problem == "forbidden-field"
    assert (await api.call(api.with_only(api.anna, "user.see-main."), "GET", "/events?topics=log")).status == 403
    last = boss.changes[-1].data["id"]
    api.ask("DELETE FROM audit WHERE id = %s", last)
    await listening.settled()
    assert boss.briefs[-1] == anna.briefs[-1] == ("removed", last) and rick.changes == []


def configured(listener: Any) -> list[tuple[Any, ...]]:
    return [(each.name, each.data["id"], each.data["item"]["value"]) for each in listener.changes]


@pytest.mark.acceptance(23)
@asynchronous
async def test_configuration(api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set, changed and reset, to whom it counts for, and as they read it."""
    monkeypatch.setattr(Configuration, "keys", (*KEYS, SECRET, ON_HOSTS))
    anna, rick, boss = [await listening.open(each, "config") for each in (api.anna, api.rick, api.boss)]
    days, host = f"/config/{EXPIRING_DAYS}", api.insert("hosts (name, address) VALUES ('node', '127.0.0.1')")
    await api.call(api.boss, "PUT", days, {"value": 20})
    await listening.settled()
    assert configured(anna) == configured(rick) == [("changed", EXPIRING_DAYS, 20)]
    assert anna.changes[0].data["item"] == (await api.call(api.anna, "GET", days)).body
    assert set(anna.changes[0].data) == {"topic", "kind", "id", "item"}
    assert configured(boss) == [("added", EXPIRING_DAYS, 20)]
    for value in (10, 11):
        await api.call(api.anna, "PUT", days, {"value": value})
        await listening.settled()
    await api.call(api.anna, "DELETE", days)
    await listening.settled()
    own = [("added", EXPIRING_DAYS, 10), ("changed", EXPIRING_DAYS, 11), ("removed", EXPIRING_DAYS, 20)]
    assert configured(anna)[1:] == own == configured(boss)[1:] and len(rick.changes) == 1
    assert {each.data["tenant_id"] for each in boss.changes[1:]} == {api.acme}
    # Keys that are none of a tenant's, and secrets.
    await api.call(api.boss, "PUT", "/config/trial.secret", {"value": CANARY})
    await api.call(api.boss, "PUT", "/config/trial.host", {"value": "there", "host_id": host})
    await listening.settled()
    assert configured(boss)[4:] == [("added", "trial.secret", None), ("added", "trial.host", "there")]
    assert boss.changes[4].data["item"]["is_set"] and boss.changes[5].data["host_id"] == host
    assert len(anna.changes) == 4 and len(rick.changes) == 1
    assert all(CANARY.encode() not in each.request.written for each in listening.listeners)
    # Reset and set again in one turn: it has changed, and is not gone.
    api.ask("DELETE FROM configs WHERE key = %s", EXPIRING_DAYS)
    api.ask("INSERT INTO configs (tenant_id, key, value) VALUES (-1, %s, '7')", EXPIRING_DAYS)
    await listening.settled()
    assert configured(boss)[6:][-1][1:] == (EXPIRING_DAYS, 7) and boss.changes[-1].name != "removed"
    assert (await api.call(api.with_only(api.anna, "log.see-main."), "GET", "/events?topics=config")).status == 403


@asynchronous
async def test_configuration_of_many_places(
    api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss, anna = await listening.open(api.boss, "config"), await listening.open(api.anna, "config")
    api.ask("INSERT INTO tenants (name) SELECT 'more' || n FROM generate_series(1, 60) n")
    api.ask("INSERT INTO configs (tenant_id, key, value) SELECT id, %s, '7' FROM tenants WHERE id > 0", EXPIRING_DAYS)
    await listening.settled()
    assert [each.name for each in boss.changes] == ["resync"] and configured(anna) == [("added", EXPIRING_DAYS, 7)]
