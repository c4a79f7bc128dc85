"""Point 13 of the acceptance list: many VMs are started by one job, which is followed, cancelled, and survives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from qvd.admin.bulk import AT_ONCE
from qvd.admin.jobs.runner import TURN
from tests.admin.desks import GIB, Desks
from tests.admin.hands import Hands
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, until

MANY, CHOSEN = 10_000, 120
"""VMs that there are; and that are started. Some hundred take a second."""
MINE: dict[str, Any] = {"field": "name", "op": "prefix", "value": "chosen"}
pytestmark = pytest.mark.acceptance(13)


@asynchronous_fixture
async def hands(api: ApiWorld) -> AsyncIterator[Hands]:
    made = Hands(api)
    yield made
    await made.stop()


def vms(api: ApiWorld, desks: Desks, prefix: str, count: int) -> None:
    api.ask(
        "INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT %s, %s, %s, %s || n FROM generate_series(1, %s) n",
        api.acme,
        desks.user,
        desks.osf,
        prefix,
        count,
    )


def room_for(api: ApiWorld, count: int) -> None:
    api.ask("UPDATE host_runtimes SET usable_ram = %s, available_ram = %s", count * GIB, count * GIB)


def ordered(api: ApiWorld) -> list[int]:
    """How often each VM was ordered to start, of those that were."""
    rows = api.ask("SELECT count(*) FROM events WHERE kind = 'vm.ordered' GROUP BY vm_id")
    return [row["count"] for row in rows]


async def ask_for(api: ApiWorld, **more: Any) -> Any:
    return await api.call(api.anna, "POST", "/vms/bulk", {"op": "start", "filter": MINE, **more})


async def read(api: ApiWorld, job_id: int) -> Any:
    return (await api.call(api.anna, "GET", f"/jobs/{job_id}")).body


@asynchronous
async def test_many_are_started_by_a_job_that_survives(api: ApiWorld, desks: Desks, hands: Hands) -> None:
    vms(api, desks, "other", MANY)
    vms(api, desks, "chosen", CHOSEN)
    room_for(api, 2 * CHOSEN)
    page = await api.call(api.anna, "GET", "/vms?limit=50&sort=-name&name[prefix]=other&count=exact")
    assert (page.status, page.body["page"]["total"]) == (200, MANY), page.body
    asked = await ask_for(api)
    assert (asked.status, asked.body["total"]) == (202, CHOSEN)
    job_id = asked.body["id"]
    hands.start()
    await until(lambda: len(ordered(api)) > 20, "some of them")
    hands.clock.advance(TURN)
    await until(lambda: api.ask("SELECT 1 FROM jobs WHERE done > 0"), "the progress")
    job = await read(api, job_id)
    assert job["state"] == "running" and 0 < job["progress"]["done"] < CHOSEN == job["progress"]["total"]
    # One is killed, and has not noticed; the next one stops as it should, and a third one ends it.
    api.ask("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'")
    second = hands.start()
    await until(lambda: api.ask("SELECT 1 FROM jobs WHERE attempts = 2"), "the second one has it")
    await second.stop()
    job = await read(api, job_id)
    assert (job["state"], job["attempts"]) in (("queued", 1), ("succeeded", 2))
    hands.start()
    await hands.until_state(job_id, "succeeded")
    job = await read(api, job_id)
    assert (job["result"]["succeeded"], job["result"]["failed"], job["result"]["left"]) == (CHOSEN, 0, 0)
    await hands.stop()
    assert ordered(api) == [1] * CHOSEN
    # They are ordered, and wait on their node for its slots: the job waits for no boot.
    [found] = api.ask(
        "SELECT count(*), min(host_id) AS first, max(host_id) AS last FROM vm_runtimes"
        " WHERE desired_state = 'running' AND vm_state = 'stopped' AND generation = 1 AND acked_generation = 0"
    )
    assert (found["count"], found["first"], found["last"]) == (CHOSEN, desks.host, desks.host)
    done = [each for each in api.trail() if each["action"] == "vm.start" and each["outcome"] == "done"]
    assert len(done) == len({each["object_id"] for each in done}) == CHOSEN


@asynchronous
async def test_it_is_cancelled_and_goes_on(api: ApiWorld, desks: Desks, hands: Hands) -> None:
    vms(api, desks, "chosen", CHOSEN)
    room_for(api, 2 * CHOSEN)
    job_id = (await ask_for(api)).body["id"]
    hands.start()
    await until(lambda: ordered(api), "the first one")
    assert (await api.call(api.anna, "DELETE", f"/jobs/{job_id}")).status == 200
    hands.clock.advance(TURN)
    await hands.until_state(job_id, "cancelled")
    job = await read(api, job_id)
    assert job["result"]["left"] > 0 and len(ordered(api)) == CHOSEN - job["result"]["left"]
    assert (await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")).status == 200
    hands.start()
    await hands.until_state(job_id, "succeeded")
    assert ordered(api) == [1] * CHOSEN


@asynchronous
async def test_each_that_has_no_place_is_named(api: ApiWorld, desks: Desks, hands: Hands) -> None:
    """And gets one when there is room, by having the same job tried again."""
    vms(api, desks, "chosen", AT_ONCE + 10)
    room_for(api, AT_ONCE)
    would = await ask_for(api, dry_run=True)
    assert (would.status, would.body["succeeded"], would.body["failed"]) == (200, AT_ONCE + 10, 0)
    assert ordered(api) == [] and api.ask("SELECT 1 FROM vm_runtimes WHERE last_error <> ''") == []
    job_id = (await ask_for(api)).body["id"]
    hands.start()
    await hands.until_state(job_id, "partial")
    result = (await read(api, job_id))["result"]
    assert (result["succeeded"], result["failed"]) == (AT_ONCE, 10)
    assert {each["problem"]["type"] for each in result["results"]} == {"/problems/no-host-available"}
    assert all("node1" in each["problem"]["detail"] for each in result["results"])
    room_for(api, 2 * AT_ONCE)
    await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")
    hands.start()
    await hands.until_state(job_id, "succeeded")
    assert ordered(api) == [1] * (AT_ONCE + 10)


@asynchronous
async def test_a_rehearsal_of_what_has_no_place_keeps_nothing(api: ApiWorld, desks: Desks) -> None:
    vms(api, desks, "chosen", 2)
    room_for(api, 0)
    would = await ask_for(api, dry_run=True)
    assert (would.body["succeeded"], would.body["failed"]) == (0, 2)
    assert [each["status"] for each in would.body["results"]] == [503, 503]
    assert api.ask("SELECT 1 FROM vm_runtimes WHERE last_error <> ''") == []
    few = await ask_for(api)
    assert (few.status, few.body["failed"]) == (200, 2)
    assert len(api.ask("SELECT 1 FROM vm_runtimes WHERE last_error <> ''")) == 2
