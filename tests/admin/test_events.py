"""Events: to each those alone that they may see."""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve

from qvd.admin.problems import Problem
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, until


@pytest.mark.acceptance(3, 5)
@asynchronous
async def test_another_tenant_hears_nothing(api: ApiWorld, listening: Listening) -> None:
    """Two administrators at one service, neither of whom gets what is the other's."""
    topics = "users,test-vms,test-sessions,properties,log,config,stats,me"
    anna = await listening.open(api.anna, topics)
    rick = await listening.open(api.rick, topics)
    boss = await listening.open(api.boss, topics)
    vm = listening.vm(api.rival, "theirs")
    await api.call(api.rick, "POST", "/users", {"name": "ruth"})
    api.ask("UPDATE vm_runtimes SET detail = 'secret' WHERE vm_id = %s", vm)
    api.ask("UPDATE administrators SET description = 'x' WHERE id = %s", api.rick.administrator_id)
    await listening.settled()
    api.ask("DELETE FROM vms WHERE id = %s", vm)
    await listening.settled()
    assert anna.changes == []
    assert ("removed", vm) in rick.briefs and ("removed", vm) in boss.briefs
    assert {each.data["topic"] for each in rick.changes} == {"users", "test-vms", "log", "stats", "me"}
    assert all("tenant_id" not in each.data.get("item", {}) for each in rick.changes)
    assert any("tenant_id" in each.data.get("item", {}) for each in boss.changes)
    absent = await api.call(api.anna, "GET", "/events?topics=test-vm:999999")
    assert absent.status == 400
    vm = listening.vm(api.rival, "more")
    foreign = await api.call(api.anna, "GET", f"/events?topics=vm:{vm}")
    absent = await api.call(api.anna, "GET", "/events?topics=vm:999999")
    assert foreign.body | {"instance": ""} == absent.body | {"instance": ""} and absent.status == 404
    hidden = await api.call(api.anna, "GET", "/events?topics=tenants")
    unknown = await api.call(api.anna, "GET", "/events?topics=nonsense")
    assert (hidden.status, hidden.problem) == (unknown.status, unknown.problem)
    assert hidden.body["detail"].replace("tenants", "nonsense") == unknown.body["detail"]


@pytest.mark.acceptance(3, 5)
@pytest.mark.parametrize("seed", range(4))
@asynchronous
async def test_nothing_of_random_changes_reaches_another_tenant(api: ApiWorld, listening: Listening, seed: int) -> None:
    """Whatever happens to objects of the other one."""
    rng, topics = Random(seed), "users,test-vms,test-vms?state=running,test-osfs,test-dis,test-sessions"
    topics += ",properties,log,config,stats,me"
    anna, rick = await listening.open(api.anna, topics), await listening.open(api.rick, topics)
    host = api.insert("hosts (name, address) VALUES ('node', '127.0.0.1')")
    await listening.settled()
    known = len(anna.changes)
    for number in range(30):
        vm = listening.vm(api.rival, f"canary{number}")
        [row] = api.ask("SELECT user_id, osf_id FROM vms WHERE id = %s", vm)
        user, osf = row["user_id"], row["osf_id"]
        di = api.insert(
            "dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, '', 'canary', 'published')", api.rival, osf
        )
        steps: list[tuple[str, tuple[object, ...]]] = [
            ("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'canary-tag', %s)", (osf, di)),
            ("UPDATE vm_runtimes SET detail = 'canary' WHERE vm_id = %s", (vm,)),
            ("INSERT INTO vm_properties VALUES (%s, %s, 'k', 'canary')", (vm, api.rival)),
            ("INSERT INTO osf_properties VALUES (%s, %s, 'k', 'canary')", (osf, api.rival)),
            ("UPDATE users SET description = 'canary' WHERE id = %s", (user,)),
            ("INSERT INTO user_properties VALUES (%s, %s, 'k', 'canary')", (user, api.rival)),
            ("INSERT INTO properties (tenant_id, key) VALUES (%s, %s)", (api.rival, f"canary{number}")),
            ("INSERT INTO configs (tenant_id, key, value) VALUES (%s, %s, '1')", (api.rival, f"canary{number}")),
            ("SELECT audit_append(jsonb_build_object('action', 'canary', 'object_tenant_id', %s))", (api.rival,)),
            (
                "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state)"
                " VALUES (gen_random_uuid(), %s, %s, %s, %s, 1, '', 'connecting')",
                (api.rival, vm, user, host),
            ),
        ]
        for sql, values in rng.sample(steps, rng.randrange(len(steps) + 1)):
            api.ask(sql, *values)
        gone = [("vms", vm), ("dis", di), ("osfs", osf), ("users", user)][: rng.randrange(5)]
        for table, key in gone:
            api.ask(f"DELETE FROM {table} WHERE id = %s", key)
        if rng.random() < 0.3:
            await listening.settled()
    await listening.settled()
    assert anna.changes[known:] == [] and len(rick.changes) > known


@asynchronous
async def test_what_all_share(api: ApiWorld, listening: Listening) -> None:
    listeners = [await listening.open(each, "test-osfs") for each in (api.anna, api.rick)]
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (-1, 'shared', 1)")
    await listening.settled()
    assert [each.briefs for each in listeners] == [[("added", osf)], [("added", osf)]]


@asynchronous
async def test_fields_and_permissions(api: ApiWorld, listening: Listening) -> None:
    reader = evolve(api.with_only(api.anna, "vm.see-main."), name="reader", session="reader")
    less, more = await listening.open(reader, "test-vms"), await listening.open(api.anna, "test-vms")
    few = await listening.open(api.anna, "test-vms?fields=state")
    vm = listening.vm(api.acme, "one")
    await listening.settled()
    assert less.changes[0].data["item"] == {"id": vm, "name": "one", "state": "stopped"}
    assert more.changes[0].data["item"] == {"id": vm, "name": "one", "state": "stopped", "detail": ""}
    assert few.changes[0].data["item"] == {"id": vm, "state": "stopped"}
    api.gate.principal = reader
    for topics, problem in (
        ("users", "forbidden"),
        ("stats", "forbidden"),
        ("test-vms?detail=x", "forbidden-filter"),
        ("test-vms?fields=detail", "forbidden-field"),
        ("test-vms?nonsense=x", "unknown-filter"),
        ("", "malformed-request"),
    ):
        assert (await api.call(reader, "GET", f"/events?topics={topics}")).problem == problem, topics
    assert (await api.call(None, "GET", "/events?topics=me")).status == 401


@asynchronous
async def test_collection_that_narrows(api: ApiWorld, listening: Listening) -> None:
    """What somebody sees only of their own; of others' objects not even that one is gone."""
    another = evolve(api.anna, administrator_id=77)
    listeners = [await listening.open(each, "test-osfs-own") for each in (api.anna, another)]
    own, others = (
        api.insert("osfs (tenant_id, name, memory) VALUES (%s, %s, %s)", api.acme, name, memory)
        for name, memory in (("a", api.anna.administrator_id), ("b", 1 << 30))
    )
    await listening.settled()
    api.ask("DELETE FROM osfs WHERE id IN (%s, %s)", own, others)
    await listening.settled()
    assert [each.briefs for each in listeners] == [[("added", own), ("removed", own)], []]
    assert (await api.call(api.anna, "GET", "/events?topics=test-osfs-all")).status == 400


@asynchronous
async def test_filter(api: ApiWorld, listening: Listening) -> None:
    """What leaves the filter is removed."""
    first, second = listening.vm(api.acme, "one"), listening.vm(api.acme, "two")
    running = await listening.open(api.anna, "test-vms?name=one&detail=a,b")
    only = await listening.open(api.anna, f"vm:{second}")
    for vm in (first, second):
        api.ask("UPDATE vm_runtimes SET detail = 'b' WHERE vm_id = %s", vm)
    await listening.settled()
    assert running.briefs == [("changed", first), ("removed", second)]
    api.ask("UPDATE vm_runtimes SET detail = 'c' WHERE vm_id = %s", first)
    await listening.settled()
    assert running.briefs[2:] == [("removed", first)]
    assert only.briefs == [("changed", second)]


@pytest.mark.acceptance(5)
@asynchronous
async def test_revocation(api: ApiWorld, listening: Listening) -> None:
    """Within 5 s, and nothing is told meanwhile that is no longer theirs."""
    anna, rick = await listening.open(api.anna, "users"), await listening.open(api.rick, "users")
    boss = await listening.open(api.boss, "users")
    listening.now["anna"] = Problem("session-expired", "It was revoked")
    listening.now["rick"] = evolve(api.rick, acls=frozenset({"user.see-main."}))
    began = listening.feed.reactor.seconds()
    await until(lambda: anna.ended and rick.ended, "the end of both")
    assert listening.feed.reactor.seconds() - began < 5
    assert [(each.name, each.data["reason"]) for each in anna.changes] == [("revoked", "session-expired")]
    assert [(each.name, each.data["reason"]) for each in rick.changes] == [("revoked", "permissions-changed")]
    assert not boss.ended and boss.changes == []


@asynchronous
async def test_who_cannot_be_identified_hears_nothing(api: ApiWorld, listening: Listening) -> None:
    anna = await listening.open(api.anna, "users")
    [stream] = listening.feed.streams
    stream.checked -= 60
    api.ask("INSERT INTO users (tenant_id, login) VALUES (%s, 'new')", api.acme)
    await listening.feed.turn()
    assert anna.changes == []
    await listening.feed.watch()
    assert [each.name for each in anna.changes] == ["resync"]
