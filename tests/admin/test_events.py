"""Events: each change once and in order, to those alone who may see it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg2
import pytest
from attrs import evolve

from qvd.admin.api import COLLECTIONS
from qvd.admin.collections import Collection
from qvd.admin.events import changes, feed
from qvd.admin.events.topics import WATCHED
from qvd.admin.problems import Problem
from qvd.db.records import Records
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, pause, until


@pytest.fixture
def listening(api: ApiWorld) -> Iterator[Listening]:
    made = Listening(api)
    yield made
    made.close()
    assert made.feed.streams == set()


@pytest.mark.acceptance(23)
@asynchronous
async def test_made_changed_deleted(api: ApiWorld, listening: Listening) -> None:
    """Acceptance point 23, through the API."""
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
    """Acceptance point 23: rows of each kind arrive once and in order."""
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


@pytest.mark.acceptance(3, 5)
@asynchronous
async def test_another_tenant_hears_nothing(api: ApiWorld, listening: Listening) -> None:
    """Acceptance points 3 and 5: two administrators at one service, neither of whom gets what is the other's."""
    topics = "users,test-vms,test-sessions,stats,me"
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
    assert {each.data["topic"] for each in rick.changes} == {"users", "test-vms", "stats", "me"}
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


@pytest.mark.acceptance(3)
@pytest.mark.parametrize("seed", range(4))
@asynchronous
async def test_nothing_of_random_changes_reaches_another_tenant(api: ApiWorld, listening: Listening, seed: int) -> None:
    """Acceptance point 3, by whatever happens to objects of the other one."""
    rng, topics = Random(seed), "users,test-vms,test-vms?state=running,test-osfs,test-dis,test-sessions,stats,me"
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


@asynchronous
async def test_coalescing(api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several changes of one object in a turn are one event, and one query for all who see the same."""
    vm = listening.vm(api.acme, "one")
    listeners = [await listening.open(api.anna, "test-vms") for _ in range(3)]
    asked, page = [], Records.page

    async def counted(*given: Any) -> Any:
        asked.append(given)
        return await page(*given)

    monkeypatch.setattr(Records, "page", counted)
    connection = psycopg2.connect(api.dsn)
    with connection, connection.cursor() as cursor:
        for number in range(20):
            cursor.execute("UPDATE vm_runtimes SET detail = %s WHERE vm_id = %s", (str(number), vm))
    connection.close()
    await listening.settled()
    for listener in listeners:
        assert [each.data["item"]["detail"] for each in listener.changes] == ["19"]
    assert len(asked) == 1


@asynchronous
async def test_commits_out_of_order(api: ApiWorld, listening: Listening) -> None:
    """The one that wrote first commits last: neither is missed."""
    first, second = listening.vm(api.acme, "one"), listening.vm(api.acme, "two")
    listener = await listening.open(api.anna, "test-vms")
    slow, fast = psycopg2.connect(api.dsn), psycopg2.connect(api.dsn)
    slow.cursor().execute("UPDATE vm_runtimes SET detail = 'slow' WHERE vm_id = %s", (first,))
    fast.cursor().execute("UPDATE vm_runtimes SET detail = 'fast' WHERE vm_id = %s", (second,))
    fast.commit()
    await pause(0.5)
    cut = listener.last_id
    fast.cursor().execute("UPDATE vm_runtimes SET detail = 'faster' WHERE vm_id = %s", (second,))
    fast.commit()
    slow.commit()
    await listening.settled()
    assert listener.briefs == [("changed", first), ("changed", second)]
    assert [each.data["item"]["detail"] for each in listener.changes] == ["slow", "faster"]
    again = await listening.open(api.anna, "test-vms", cut)
    await listening.settled()
    assert again.briefs == listener.briefs
    slow.close()
    fast.close()


@pytest.mark.acceptance(23)
@asynchronous
async def test_resume(api: ApiWorld, listening: Listening) -> None:
    """Acceptance point 23: inside of the buffer nothing is lost."""
    first, second = listening.vm(api.acme, "one"), listening.vm(api.acme, "two")
    listener = await listening.open(api.anna, "test-vms")
    api.ask("UPDATE vm_runtimes SET detail = 'a' WHERE vm_id = %s", first)
    await listening.settled()
    last = listener.changes[-1].id
    assert last == listener.last_id
    listener.leave()
    api.ask("UPDATE vm_runtimes SET detail = 'b' WHERE vm_id = %s", second)
    api.ask("DELETE FROM vms WHERE id = %s", first)
    again = await listening.open(api.anna, "test-vms", last)
    await listening.settled()
    assert again.briefs == [("changed", second), ("removed", first)]
    new = await listening.open(api.anna, "test-vms")
    await listening.settled()
    assert new.changes == []


@pytest.mark.acceptance(23)
@asynchronous
async def test_resync(api: ApiWorld, listening: Listening) -> None:
    """Acceptance point 23: outside of the buffer it is said so."""
    now = await listening.feed.outbox.now()
    old, of_another = f"{now.xid}-{now.at - feed.KEPT - 1}", f"{now.xid + 1000}-{now.at}"
    for last in (old, of_another, f"{now.xid}-{now.at + 60}", "nonsense", "1-2-3", "1-²"):
        listener = await listening.open(api.anna, "users", last)
        assert [each.name for each in listener.events] == ["hello", "resync"], last


@asynchronous
async def test_many_changes(api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can be told one by one; the other tenant does not notice."""
    monkeypatch.setattr(changes, "MOST", 10)
    anna, rick = await listening.open(api.anna, "users"), await listening.open(api.rick, "users")
    api.ask("INSERT INTO users (tenant_id, login) SELECT %s, 'user' || n FROM generate_series(1, 11) n", api.acme)
    await listening.settled()
    assert [each.name for each in anna.changes] == ["resync"] and rick.changes == []


@pytest.mark.acceptance(5)
@asynchronous
async def test_revocation(api: ApiWorld, listening: Listening) -> None:
    """Acceptance point 5: within 5 s, and nothing is told meanwhile that is no longer theirs."""
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


@asynchronous
async def test_no_work_without_listeners(api: ApiWorld, listening: Listening) -> None:
    assert not listening.turning()
    listener = await listening.open(api.anna, "users")
    assert listening.turning()
    listener.leave()
    assert not listening.turning() and listening.feed.streams == set()
    listener = await listening.open(api.anna, "users")
    listening.feed.stopService()
    await until(lambda: listener.ended)
    assert listener.changes == []


@asynchronous
async def test_limits(api: ApiWorld, listening: Listening) -> None:
    listening.feed.most, listening.feed.most_of_one = 3, 2
    for _ in range(2):
        await listening.open(api.anna, "me")
    assert (await api.call(api.anna, "GET", "/events?topics=me")).problem == "too-many-requests"
    await listening.open(api.rick, "me")
    refused = await api.call(api.boss, "GET", "/events?topics=me")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")


@asynchronous
async def test_old_changes_are_taken_away(api: ApiWorld, listening: Listening) -> None:
    api.ask(
        "INSERT INTO outbox (kind, object_id, op, at) VALUES ('old', '1', 'changed', now() - interval '21 minutes')"
    )
    api.ask("INSERT INTO users (tenant_id, login) SELECT %s, 'user' || n FROM generate_series(1, 1100) n", api.acme)
    kinds = {row["kind"]: row["count"] for row in api.ask("SELECT kind, count(*) FROM outbox GROUP BY kind")}
    assert "old" not in kinds and kinds["user"] == 1100


UNWATCHED = {"log", "property"}
"""Kinds whose changes are not told, on purpose."""


@asynchronous
async def test_all_collections_are_attached(api: ApiWorld) -> None:
    """Whoever adds a table of objects has its changes told: C{outbox_attach} in a migration, and C{WATCHED}."""
    found = {row["tgname"] for row in api.ask("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")}
    for kind in COLLECTIONS:
        resource = kind.resource
        assert (resource.name in WATCHED) != (resource.name in UNWATCHED), resource.name
        if resource.name in WATCHED:
            assert f"outbox_{resource.table}_{resource.name}" in found, resource.collection
        if kind.find is not Collection.find:
            assert kind.only is not Collection.only, f"{resource.name}: events are not narrowed as its lists are"
