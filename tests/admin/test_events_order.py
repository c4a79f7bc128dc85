"""Events: each change once and in order, and none lost on the way; at a price that is bounded."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from qvd.admin.events import changes, feed
from qvd.db.records import Records
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, pause, until


@pytest.mark.acceptance(23)
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


@pytest.mark.acceptance(23)
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
    """Inside of the buffer nothing is lost."""
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
    """Outside of the buffer it is said so."""
    now = await listening.feed.outbox.now()
    old, of_another = f"{now.xid}-{now.at - feed.KEPT - 1}", f"{now.xid + 1000}-{now.at}"
    for last in (old, of_another, f"{now.xid}-{now.at + 60}", "nonsense", "1-2-3", "1-²"):
        listener = await listening.open(api.anna, "users", last)
        assert [each.name for each in listener.events] == ["hello", "resync"], last


@pytest.mark.acceptance(23)
@asynchronous
async def test_many_changes(api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can be told one by one; the other tenant does not notice."""
    monkeypatch.setattr(changes, "MOST", 10)
    anna, rick = await listening.open(api.anna, "users"), await listening.open(api.rick, "users")
    api.ask("INSERT INTO users (tenant_id, login) SELECT %s, 'user' || n FROM generate_series(1, 11) n", api.acme)
    await listening.settled()
    assert [each.name for each in anna.changes] == ["resync"] and rick.changes == []


@pytest.mark.acceptance(23)
@asynchronous
async def test_many_come_back_at_once(api: ApiWorld, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from where it was, some in a turn; who was there all the time does not wait for them, and nobody loses."""
    monkeypatch.setattr(feed, "GROUPS", 2)
    staying = await listening.open(api.anna, "users")
    positions, users = [], []
    for number in range(6):
        positions.append(staying.last_id)
        users.append(api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"user{number}"))
        await listening.settled()
    back = [await listening.open(api.anna, "users", position) for position in positions]
    await listening.settled()
    told = [("added", user) for user in users]
    assert staying.briefs == told
    assert [each.briefs for each in back] == [told[number:] for number in range(6)]


@asynchronous
async def test_who_is_new_begins_where_others_are(api: ApiWorld, listening: Listening) -> None:
    """All are read for at once; no change after the beginning is missed."""
    await listening.open(api.anna, "users")
    await listening.settled()
    api.ask("INSERT INTO users (tenant_id, login) VALUES (%s, 'before')", api.rival)
    for _ in range(3):
        await listening.open(api.anna, "users")
    assert len({stream.position for stream in listening.feed.streams}) <= 2
    [held] = listening.feed._topics.values()
    assert held.streams == 4 and {id(stream.topics[0]) for stream in listening.feed.streams} == {id(held.topic)}
    user = api.insert("users (tenant_id, login) VALUES (%s, 'after')", api.acme)
    await listening.settled()
    assert [each.briefs for each in listening.listeners] == [[("added", user)]] * 4
    for listener in listening.listeners:
        listener.leave()
    assert listening.feed._topics == {}


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
