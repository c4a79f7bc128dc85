"""One operation on many objects: at once, as a job, rehearsed; none twice, none of another tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

from qvd.admin.api import all_endpoints
from qvd.admin.bulk import AT_ONCE
from qvd.admin.call import Answer
from qvd.admin.jobs.runner import TURN
from qvd.interfaces import ITransaction
from qvd.model.declared import Principal
from tests.admin.belongings import KINDS, Belongings, a_node
from tests.admin.hands import Hands
from tests.admin.world import ApiWorld, NoReplies
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, pause, until


@asynchronous_fixture
async def hands(api: ApiWorld) -> AsyncIterator[Hands]:
    made = Hands(api)
    yield made
    await made.stop()


def users(api: ApiWorld, tenant_id: int, count: int, prefix: str = "user") -> list[int]:
    rows = api.ask(
        "INSERT INTO users (tenant_id, login) SELECT %s, %s || n FROM generate_series(1, %s) n RETURNING id",
        tenant_id,
        prefix,
        count,
    )
    return [row["id"] for row in rows]


def blocked(api: ApiWorld) -> int:
    return int(api.ask("SELECT count(*) FROM users WHERE blocked")[0]["count"])


@asynchronous
async def test_a_few_at_once(api: ApiWorld) -> None:
    ids, [foreign] = users(api, api.acme, 3), users(api, api.rival, 1)
    wanted = [*ids, foreign, 999999]
    done = await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "ids": wanted})
    assert done.status == 200 and (done.body["succeeded"], done.body["failed"]) == (3, 2)
    assert [each["status"] for each in done.body["results"]] == [200, 200, 200, 404, 404]
    theirs, absent = (each["problem"] for each in done.body["results"][3:])
    assert theirs | {"instance": ""} == absent | {"instance": ""}
    assert blocked(api) == 3
    trail = [(each["action"], each["outcome"], each["object_id"]) for each in api.trail()]
    assert trail == [
        *(("user.block", "done", each) for each in ids),
        ("user.block", "denied", foreign),
        ("user.block", "denied", 999999),
        ("user.bulk", "done", None),
    ]
    assert {each["request_id"] for each in api.trail()} == {"test"}


@asynchronous
async def test_changing_and_deleting(api: ApiWorld) -> None:
    ids = users(api, api.acme, 2)
    body = {"op": "update", "ids": ids, "arguments": {"description": "moved"}}
    assert (await api.call(api.anna, "POST", "/users/bulk", body)).body["succeeded"] == 2
    assert {row["description"] for row in api.ask("SELECT description FROM users")} == {"moved"}
    wrong = await api.call(api.anna, "POST", "/users/bulk", body | {"arguments": {"descripton": ""}})
    assert (wrong.status, wrong.problem) == (422, "unknown-attribute")
    assert (await api.call(api.anna, "POST", "/users/bulk", {"op": "delete", "ids": ids})).body["succeeded"] == 2
    assert api.ask("SELECT 1 FROM users") == []


@asynchronous
async def test_the_filter_is_about_the_callers_own(api: ApiWorld) -> None:
    users(api, api.acme, 3)
    users(api, api.rival, 3)
    chosen = {"field": "name", "op": "prefix", "value": "user"}
    body = {"op": "block", "filter": chosen}
    assert (await api.call(api.anna, "POST", "/users/bulk", body)).body["succeeded"] == 3
    assert {row["tenant_id"] for row in api.ask("SELECT tenant_id FROM users WHERE blocked")} == {api.acme}
    none = await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "filter": chosen | {"value": "x"}})
    assert none.problem == "nothing-matched"
    blind = api.with_only(api.anna, "user.update.block")
    assert (await api.call(blind, "POST", "/users/bulk", body)).problem == "forbidden-filter"


@asynchronous
async def test_who_may(api: ApiWorld) -> None:
    ids = users(api, api.acme, 1)
    blocker = api.with_only(api.anna, "user.update.block")
    assert (await api.call(blocker, "POST", "/users/bulk", {"op": "block", "ids": ids})).body["succeeded"] == 1
    assert (await api.call(blocker, "POST", "/users/bulk", {"op": "delete", "ids": ids})).problem == "forbidden"
    changed = {"op": "update", "ids": ids, "arguments": {"blocked": False, "description": "x"}}
    [one] = (await api.call(blocker, "POST", "/users/bulk", changed)).body["results"]
    assert (one["status"], one["problem"]["type"]) == (403, "/problems/forbidden-attribute")
    assert (await api.call(api.with_only(api.anna), "POST", "/users/bulk", changed)).problem == "forbidden"
    assert (await api.call(api.anna, "POST", "/tenants/bulk", {"op": "block", "ids": [api.rival]})).status == 404


@asynchronous
async def test_what_is_malformed(api: ApiWorld) -> None:
    for body in (
        {"op": "block"},
        {"op": "block", "ids": []},
        {"op": "block", "ids": [1], "filter": {}},
        {"op": "explode", "ids": [1]},
        {"op": "block", "ids": [-1]},
        {"op": "block", "ids": [1 << 40]},
        {"op": "block", "ids": [1], "arguments": {"x": 1}},
    ):
        assert (await api.call(api.anna, "POST", "/users/bulk", body)).problem == "invalid-value", body


@asynchronous
async def test_a_rehearsal_changes_nothing(api: ApiWorld) -> None:
    ids = users(api, api.acme, AT_ONCE + 1)
    body = {"op": "delete", "ids": [*ids, 999999], "dry_run": True}
    would = await api.call(api.anna, "POST", "/users/bulk", body)
    assert would.status == 200 and would.body["dry_run"] is True
    assert (would.body["succeeded"], would.body["failed"]) == (AT_ONCE + 1, 1)
    assert len(api.ask("SELECT 1 FROM users")) == AT_ONCE + 1
    assert [(each["action"], each["outcome"]) for each in api.trail()] == [("user.bulk", "done")]


@asynchronous
async def test_a_call_that_comes_again_does_nothing_again(api: ApiWorld) -> None:
    """The answer is kept in the transaction of the call's own row."""
    kept: list[Answer] = []

    class Replies(NoReplies):
        def keeper(self, principal: Principal, key: str, digest: bytes) -> Any:
            async def keep(result: Answer, tx: ITransaction) -> None:
                kept.append(result)

            return keep

    api.services.replies = Replies()
    body = {"op": "block", "ids": users(api, api.acme, 2)}
    await api.call(api.anna, "POST", "/users/bulk", body, {"Idempotency-Key": "k"})
    assert [answer.body.succeeded for answer in kept] == [2]
    assert api.trail()[-1]["after"] == {"succeeded": 2, "failed": 0, "dry_run": False}


@pytest.mark.acceptance(13)
@asynchronous
async def test_many_are_a_job(api: ApiWorld, hands: Hands) -> None:
    ids, [foreign] = users(api, api.acme, 120), users(api, api.rival, 1, "their")
    asked = await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "ids": [*ids, foreign]})
    job_id = asked.body["id"]
    assert (asked.status, asked.headers["Location"]) == (202, f"/api/v1/jobs/{job_id}")
    assert [each["action"] for each in api.trail()] == ["user.bulk"]
    hands.start()
    await hands.until_state(job_id, "partial")
    job = (await api.call(api.anna, "GET", f"/jobs/{job_id}")).body
    assert (job["result"]["succeeded"], job["result"]["failed"], job["result"]["left"]) == (120, 1, 0)
    assert [(each["id"], each["status"]) for each in job["result"]["results"]] == [(foreign, 404)]
    assert (job["progress"]["done"], job["progress"]["total"], job["progress"]["unit"]) == (121, 121, "users")
    assert blocked(api) == 120
    assert sum(each["action"] == "user.block" and each["outcome"] == "done" for each in api.trail()) == 120


@pytest.mark.acceptance(13)
@asynchronous
async def test_a_job_that_was_killed_does_none_twice(api: ApiWorld, hands: Hands) -> None:
    """The one before is interrupted anywhere, is not told, and works on when the other one has the job."""
    ids = users(api, api.acme, 300)
    job_id = (await api.call(api.anna, "POST", "/users/bulk", {"op": "delete", "ids": ids})).body["id"]
    hands.start()
    await until(lambda: len(api.ask("SELECT 1 FROM users")) < 200, "some of them")
    api.ask("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s", job_id)
    hands.start()
    await hands.until_state(job_id, "succeeded")
    await until(lambda: all(each.running == 0 for each in hands.runners), "the end of both")
    result = api.ask("SELECT result FROM jobs")[0]["result"]
    assert (result["succeeded"], result["failed"]) == (300, 0)
    done = [each["object_id"] for each in api.trail() if each["action"] == "user.delete" and each["outcome"] == "done"]
    assert sorted(done) == sorted(ids)


@pytest.mark.acceptance(13)
@asynchronous
async def test_a_job_is_cancelled_and_goes_on(api: ApiWorld, hands: Hands) -> None:
    ids = users(api, api.acme, 400)
    job_id = (await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "ids": ids})).body["id"]
    hands.start()
    await until(lambda: blocked(api) > 20, "some of them")
    await api.call(api.anna, "DELETE", f"/jobs/{job_id}")
    hands.clock.advance(TURN)
    await hands.until_state(job_id, "cancelled")
    left = api.ask("SELECT result FROM jobs")[0]["result"]["left"]
    assert left > 0 and blocked(api) == 400 - left
    await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")
    hands.start()
    await hands.until_state(job_id, "succeeded")
    assert blocked(api) == 400


@asynchronous
async def test_a_job_does_what_its_owner_may_by_now(api: ApiWorld, hands: Hands) -> None:
    ids = users(api, api.acme, 60)
    jobs = [(await api.call(api.anna, "POST", "/users/bulk", {"op": "block", "ids": ids})).body["id"] for _ in range(2)]
    api.people[api.anna.administrator_id] = evolve(api.anna, acls=frozenset({"user.see-main."}))
    hands.start()
    await hands.until_state(jobs[0], "partial")
    await hands.until_state(jobs[1], "partial")
    assert blocked(api) == 0
    del api.people[api.anna.administrator_id]
    await api.call(api.anna, "POST", f"/jobs/{jobs[0]}/retry")
    hands.start()
    await hands.until_state(jobs[0], "failed")
    await pause(0)
    assert blocked(api) == 0


@asynchronous
async def test_a_thousand_vms_are_stopped(api: ApiWorld) -> None:
    api.endpoints = all_endpoints(KINDS)
    acme = Belongings(api, api.acme, 1000)
    acme.run_on(a_node(api), *acme.vms)
    asked = await api.call(api.anna, "POST", "/vms/bulk", {"op": "stop", "filter": {}})
    assert (asked.status, asked.body["total"]) == (202, 1000)
    hands = Hands(api, KINDS)
    hands.start()
    await hands.until_state(asked.body["id"], "succeeded")
    await hands.stop()
    assert api.ask("SELECT 1 FROM vm_runtimes WHERE desired_state = 'running'") == []
