"""Point 22 of the acceptance checklist: the audit trail. Its export is in L{tests.admin.test_log_export}."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.admin.endpoint import Endpoint
from qvd.admin.oldrows import EVERY, OldRows, take_away
from qvd.admin.replies import KeptReplies
from qvd.db import audit
from qvd.db.replies import Replies
from qvd.model.acls import CATALOGUE
from tests.admin.isolation import sample_body
from tests.admin.logins import Client
from tests.admin.test_login import PASSWORD, logged_in
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, until

pytestmark = pytest.mark.acceptance(22)
AGED = """
    DO $$ DECLARE r audit; last bytea := (SELECT anchor_hash FROM audit_retention); BEGIN
        UPDATE audit SET at = at - interval '3 years' WHERE id <= (SELECT max(id) FROM audit) - %s;
        FOR r IN SELECT * FROM audit ORDER BY id LOOP
            last := audit_hash(last, r.id, r.at, r.entry); UPDATE audit SET hash = last WHERE id = r.id;
        END LOOP;
        UPDATE audit_head SET hash = last;
    END $$
"""


def whole(api: ApiWorld) -> int:
    """How many rows there are; they are as they were written."""
    verdict = audit.verify(api.dsn)
    assert verdict.fault is None, verdict.fault
    return verdict.rows


async def users(api: ApiWorld, *names: str) -> None:
    for name in names:
        assert (await api.call(api.anna, "POST", "/users", {"name": name})).status == 201


def changing(api: ApiWorld) -> list[Endpoint]:
    """All operations that change something; what streams needs a connection."""
    return [each for each in api.endpoints if each.audited and not each.streamed]


@asynchronous
async def test_one_row_for_each_change_with_before_and_after(api: ApiWorld) -> None:
    made = (await api.call(api.anna, "POST", "/users", {"name": "alice", "description": "tall"})).body
    path = f"/users/{made['id']}"
    await api.call(api.anna, "PATCH", path, {"description": "small"})
    await api.call(api.anna, "DELETE", path)
    created, changed, deleted = api.trail()
    assert created["before"] is None and created["after"]["description"] == "tall"
    assert (changed["before"]["description"], changed["after"]["description"]) == ("tall", "small")
    assert deleted["before"]["description"] == "small" and deleted["after"] is None
    for row in (created, changed, deleted):
        assert (row["outcome"], row["object_id"], row["administrator_name"]) == ("done", made["id"], "anna")
        assert (row["client_address"], row["request_id"], row["status"]) == ("127.0.0.1", "test", 200)


@asynchronous
async def test_refused_and_failed_calls_leave_one_row_too(api: ApiWorld) -> None:
    """Each operation, by somebody unknown, by one who may nothing, by one who may all and names what is not there."""
    nobody = api.with_only(api.anna)
    for endpoint in changing(api):
        values = dict.fromkeys(re.findall(r"\{([a-z_]+)\}", endpoint.path), "2000000000")
        path = endpoint.path.format(**values)
        body: Any = None if endpoint.body is None else sample_body(endpoint.body)
        for who in (None, nobody, api.boss):
            before = len(api.trail())
            reply = await api.call(who, endpoint.method, path, body, {"If-Match": "*"})
            rows = api.trail()[before:]
            # An operation on many leaves a row for each of them as well; here there are none.
            assert len(rows) == 1, (endpoint.route, reply.status, rows)
            [row] = rows
            assert row["action"] == endpoint.action
            if reply.status < 400:
                assert row["outcome"] == "done", endpoint.route
            else:
                assert row["outcome"] in ("denied", "failed") and row["problem"] == reply.problem, endpoint.route
                assert row["status"] == reply.status
    whole(api)


@asynchronous
async def test_a_row_and_its_change_are_one_transaction(api: ApiWorld) -> None:
    """Neither is there without the other, whatever breaks."""
    api.ask(
        "CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.entry ->> 'outcome' = 'done' THEN RAISE EXCEPTION 'the disk is full'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER no_row BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION no_row()"
    )
    assert (await api.call(api.anna, "POST", "/users", {"name": "alice"})).status == 500
    assert api.ask("SELECT login FROM users") == []
    assert [(each["action"], each["outcome"]) for each in api.trail()] == [("user.create", "failed")]
    api.ask("DROP TRIGGER no_row ON audit")
    await users(api, "alice")
    assert (await api.call(api.anna, "POST", "/users", {"name": "alice"})).problem == "already-exists"
    assert [each["outcome"] for each in api.trail()] == ["failed", "done", "failed"]
    assert whole(api) == 3


@asynchronous
async def test_a_request_that_is_sent_again_leaves_no_second_row(api: ApiWorld) -> None:
    api.services.replies = KeptReplies(Replies(api.pool))
    for _ in range(2):
        assert (await api.call(api.anna, "POST", "/users", {"name": "a"}, {"Idempotency-Key": "k"})).status == 201
    assert len(api.trail()) == 1


@asynchronous
async def test_logins(logins: ApiWorld) -> None:
    client = Client(logins)
    assert (await client.log_in("anna", "acme", "wrong")).status == 401
    assert (await client.log_in("nobody", "acme", "wrong")).status == 401
    assert (await client.log_in("anna", "acme", PASSWORD)).status == 200
    assert (await client.call("POST", "/auth/logout")).status == 204
    assert [(each["action"], each["outcome"], each["object_name"]) for each in logins.trail()] == [
        ("auth.login", "denied", "anna"),
        ("auth.login", "denied", "nobody"),
        ("auth.login", "done", "anna"),
        ("auth.logout", "done", "anna"),
    ]
    assert "wrong" not in str(logins.trail())
    await logged_in(logins)
    assert whole(logins) == 5


@pytest.mark.parametrize(
    "spoiling",
    [
        "UPDATE audit SET entry = jsonb_set(entry, '{administrator_name}', '\"rick\"') WHERE id = 3",
        "UPDATE audit SET entry = entry - 'after' WHERE id = 3",
        "UPDATE audit SET at = at - interval '1 second' WHERE id = 3",
        "DELETE FROM audit WHERE id = 3",
        "UPDATE audit SET id = 99 WHERE id = 3",
    ],
)
@asynchronous
async def test_a_row_that_was_edited_or_deleted_is_found(api: ApiWorld, spoiling: str) -> None:
    await users(api, *"abcde")
    assert whole(api) == 5
    api.ask(spoiling)
    fault = audit.verify(api.dsn).fault
    assert fault is not None and fault.row == 3
    # Also by those who come later: what is written after it mends nothing.
    await users(api, "f")
    fault = audit.verify(api.dsn).fault
    assert fault is not None and fault.row == 3


@pytest.mark.parametrize("table", ["audit", "audit_head"])
@asynchronous
async def test_the_api_itself_can_only_append(api: ApiWorld, table: str) -> None:
    await users(api, "a")
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET hash = ''", f"TRUNCATE {table}"):
        with pytest.raises(Exception, match="permission denied"):
            await api.pool.execute(statement)
    for column in ("anchor_id = 1", "anchor_hash = ''"):
        with pytest.raises(Exception, match="permission denied"):
            await api.pool.execute(f"UPDATE audit_retention SET {column}")


@asynchronous
async def test_old_rows_go_by_themselves(api: ApiWorld) -> None:
    """A few at a time; what is left can be verified, and each cut has its row."""
    await users(api, *"abcdefg")
    api.ask(AGED % 2)
    assert await take_away(api.services, at_once=2) == 5
    trail = api.trail()
    assert [each["action"] for each in trail] == ["user.create"] * 2 + ["log.purge"] * 3
    assert [each["after"]["removed"] for each in trail[2:]] == [2, 2, 1]
    assert {each["administrator_name"] for each in trail[2:]} == {"the service, by itself"}
    assert whole(api) == 5
    assert await take_away(api.services) == 0
    assert len(api.trail()) == 5, "where nothing goes, nothing is written"
    # All that there is, also the rows about earlier cuts, can go in its time.
    api.ask(AGED % 0)
    assert await take_away(api.services) == 5
    assert [each["action"] for each in api.trail()] == ["log.purge"] and whole(api) == 1


@asynchronous
async def test_a_cut_that_nobody_told_of_is_found(api: ApiWorld) -> None:
    await users(api, *"abcd")
    api.ask(
        "UPDATE audit_retention SET anchor_id = 2, anchor_hash = (SELECT hash FROM audit WHERE id = 2);"
        "DELETE FROM audit WHERE id <= 2"
    )
    fault = audit.verify(api.dsn).fault
    assert fault is not None and "purged" in fault.why


@asynchronous
async def test_a_legal_hold_keeps_everything(api: ApiWorld) -> None:
    await users(api, *"abc")
    api.ask(AGED % 0)
    held = await api.call(api.boss, "PUT", "/log/retention", {"hold": True, "hold_reason": "a lawsuit"})
    assert held.status == 200
    assert await take_away(api.services) == 0
    assert (await api.call(api.boss, "POST", "/log/retention/run")).body["removed"] == 0
    assert audit.purge(api.dsn, "qvd-db") == 0
    assert whole(api) == 5
    freed = await api.call(api.boss, "PUT", "/log/retention", {"hold": False})
    assert freed.status == 200 and await take_away(api.services) == 3
    changes = [each for each in api.trail() if each["action"] == "log.set-retention"]
    assert [(each["before"]["hold"], each["after"]["hold"]) for each in changes] == [(False, True), (True, False)]


@asynchronous
async def test_the_service_does_it_from_time_to_time(api: ApiWorld) -> None:
    clock = Clock()
    await users(api, *"ab")
    api.ask(AGED % 0)
    rows = OldRows(api.services)
    api.services.reactor, real = clock, api.services.reactor
    await rows.start()
    clock.advance(EVERY - 1)
    assert len(api.trail()) == 2
    clock.advance(1)
    await until(lambda: len(api.trail()) == 1)
    clock.advance(EVERY)
    stopping = Deferred.fromCoroutine(rows.stop())
    await stopping
    assert not clock.getDelayedCalls()
    api.services.reactor = real


def test_each_permission_of_the_trail_exists() -> None:
    assert {"log.export.", "log.manage.", "log.see-main."} <= CATALOGUE.keys()
