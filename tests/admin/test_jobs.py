"""Durable jobs: claimed once, resumed, cancelled, tried again, and seen by whom they concern."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.admin.jobs.kinds import LEASE, JobContext, JobKind
from qvd.admin.jobs.runner import KEPT_DAYS, LOOK, PATIENCE, TIDY, TURN, JobRunner
from qvd.admin.problems import Problem
from qvd.interfaces.jobs import NewJob
from qvd.model.declared import Principal
from qvd.model.errors import DatabaseUnavailable
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, pause, until
from tests.fakes.bells import FakeBells


class Farmhand:
    """A service that runs jobs of the kind C{count}: to ten, a step whenever the test lets it."""

    def __init__(self, api: ApiWorld, name: str, restartable: bool = True, at_once: int = 2) -> None:
        self.api = api
        self.clock = Clock()
        self.bells = FakeBells()
        self.steps: list[tuple[str, int]] = []
        self.gate: Deferred[None] | None = None
        self.contexts: list[JobContext] = []
        kind = JobKind("count", self.count, at_once=at_once, restartable=restartable)
        self.runner = JobRunner(api.services, [kind], self.clock, name, self.bells)
        self.name = name

    async def count(self, context: JobContext) -> Any:
        self.contexts.append(context)
        for number in range(context.cursor or 0, 10):
            context.check({"counted": number})
            if number == context.arguments.get("stops_at"):
                self.gate = Deferred()
                await self.gate
            if number == context.arguments.get("fails_at"):
                raise Problem("conflict", "Nobody counts further")
            self.steps.append((self.name, number))
            context.progress(number + 1, 10)
            context.log(f"counted {number}")
            await context.save(number + 1)
        return {"counted": 10}

    async def pass_time(self, seconds: float) -> None:
        """A second at a time, each time long enough for the database."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            await pause(0.03)


class BrokenLine:
    """Jobs of which, at times, nothing can be written or read."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        if self.broken:
            raise DatabaseUnavailable("The line is broken")
        return getattr(self._jobs, name)


@asynchronous_fixture
async def hands(api: ApiWorld) -> AsyncIterator[dict[str, Farmhand]]:
    made: dict[str, Farmhand] = {}
    yield made
    for each in made.values():
        await each.runner.stop()


async def ask_for(api: ApiWorld, principal: Principal, **arguments: int) -> int:
    new = NewJob(kind="count", principal=principal, request_id="asked", client_address="127.0.0.1", arguments=arguments)
    made: int = await api.pool.transact("ask", lambda tx: api.services.jobs.create(new, tx))
    return made


def state_of(api: ApiWorld, job_id: int) -> str:
    return str(api.ask("SELECT state FROM jobs WHERE id = %s", job_id)[0]["state"])


async def until_state(api: ApiWorld, job_id: int, state: str) -> None:
    await until(lambda: state_of(api, job_id) == state, f"job {job_id} {state}")


def let_its_lease_end(api: ApiWorld, job_id: int) -> None:
    api.ask("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s", job_id)


@asynchronous
async def test_a_job_is_run_and_read(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna)
    queued = await api.call(api.anna, "GET", f"/jobs/{job_id}")
    assert (queued.status, queued.body["state"]) == (200, "queued")
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until_state(api, job_id, "succeeded")
    read = (await api.call(api.anna, "GET", f"/jobs/{job_id}?include=actions")).body
    assert read["result"] == {"counted": 10} and read["problem"] is None
    assert (read["progress"]["done"], read["progress"]["total"]) == (10, 10)
    assert len(read["log"]) == 10 and read["log"][9].endswith(" counted 9")
    assert (read["attempts"], read["_actions"], "holder" in read) == (1, [], False)
    assert [each["id"] for each in (await api.call(api.anna, "GET", "/jobs?state=succeeded")).body["items"]] == [job_id]


@asynchronous
async def test_a_bell_or_the_time_finds_a_job(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await pause(0.1)
    first = await ask_for(api, api.anna)
    one.bells.ring("qvd_jobs", str(first))
    await until_state(api, first, "succeeded")
    await pause(0.1)
    second = await ask_for(api, api.anna)
    await pause(0.1)
    assert state_of(api, second) == "queued"
    await one.pass_time(LOOK + TURN)
    await until_state(api, second, "succeeded")


@pytest.mark.acceptance(13)
@asynchronous
async def test_another_goes_on_with_the_job_of_one_that_was_killed(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=4)
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    # Its clock stands still from here on: it renews nothing, and does not know that time passes.
    two = hands["two"] = Farmhand(api, "two")
    two.runner.start()
    await two.pass_time(LOOK + TURN)
    assert state_of(api, job_id) == "running" and two.runner.running == 0
    let_its_lease_end(api, job_id)
    await two.pass_time(LOOK + TURN)
    await until(lambda: two.gate, "the other gate")
    assert two.gate is not None and one.gate is not None
    two.gate.callback(None)
    await until_state(api, job_id, "succeeded")
    assert two.steps == [("two", number) for number in range(4, 10)]
    # The one that was thought dead wakes up: it may not go on.
    one.gate.callback(None)
    await until(lambda: one.runner.running == 0, "its end")
    assert len(one.steps) == 5 and api.ask("SELECT attempts, state FROM jobs") == [
        {"attempts": 2, "state": "succeeded"}
    ]


@pytest.mark.acceptance(13)
@asynchronous
async def test_a_service_that_stops_gives_its_jobs_back(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=4)
    one = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    await one.runner.stop()
    row = api.ask("SELECT state, cursor, attempts, done FROM jobs")
    assert row == [{"state": "queued", "cursor": 4, "attempts": 0, "done": 4}]
    two = hands["two"] = Farmhand(api, "two")
    two.runner.start()
    await until(lambda: two.gate, "the other gate")
    assert two.gate is not None
    two.gate.callback(None)
    await until_state(api, job_id, "succeeded")


@pytest.mark.acceptance(13)
@asynchronous
async def test_what_cannot_go_on_fails_with_the_reason(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=4)
    one = hands["one"] = Farmhand(api, "one", restartable=False)
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    let_its_lease_end(api, job_id)
    two = hands["two"] = Farmhand(api, "two", restartable=False)
    two.runner.start()
    await until_state(api, job_id, "failed")
    read = (await api.call(api.anna, "GET", f"/jobs/{job_id}")).body
    assert "(one) ended in the middle, and a job of this kind cannot go on" in read["problem"]["detail"]
    again = await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")
    assert (again.status, again.body["state"], again.body["problem"]) == (200, "queued", None)


@asynchronous
async def test_a_job_that_kills_its_service_is_given_up(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=0)
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    api.ask("UPDATE jobs SET attempts = 5")
    let_its_lease_end(api, job_id)
    two = hands["two"] = Farmhand(api, "two")
    two.runner.start()
    await until_state(api, job_id, "failed")
    assert "5 times" in api.ask("SELECT problem FROM jobs")[0]["problem"]["detail"]


@pytest.mark.acceptance(13)
@asynchronous
async def test_cancelling(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    queued, running = await ask_for(api, api.anna), await ask_for(api, api.anna, stops_at=4)
    gone = await api.call(api.anna, "DELETE", f"/jobs/{queued}")
    assert (gone.status, gone.body["state"]) == (200, "cancelled")
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    asked = await api.call(api.anna, "DELETE", f"/jobs/{running}")
    assert (asked.body["state"], asked.body["cancel_wanted"]) == ("running", True)
    await one.pass_time(TURN)
    await until(lambda: one.contexts[0].cancelled, "the wish")
    assert one.gate is not None
    one.gate.callback(None)
    await until_state(api, running, "cancelled")
    read = (await api.call(api.anna, "GET", f"/jobs/{running}")).body
    assert read["result"] == {"counted": 5}
    late = await api.call(api.anna, "DELETE", f"/jobs/{running}")
    assert (late.status, late.problem) == (409, "conflict")
    assert [(each["action"], each["outcome"]) for each in api.trail()] == [
        ("job.cancel", "done"),
        ("job.cancel", "done"),
        ("job.cancel", "failed"),
    ]


@asynchronous
async def test_a_job_that_does_not_heed_is_ended(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=4)
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    await api.call(api.anna, "DELETE", f"/jobs/{job_id}")
    await one.pass_time(PATIENCE + 3 * TURN)
    await until_state(api, job_id, "cancelled")


@asynchronous
async def test_failing_and_trying_again(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, fails_at=3)
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until_state(api, job_id, "failed")
    read = (await api.call(api.anna, "GET", f"/jobs/{job_id}?include=actions")).body
    assert (read["problem"]["detail"], read["_actions"]) == ("Nobody counts further", ["retry"])
    api.ask("UPDATE jobs SET arguments = '{}'")
    assert (await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")).status == 200
    one.bells.ring("qvd_jobs")
    await until_state(api, job_id, "succeeded")
    assert [number for _, number in one.steps] == list(range(10))
    assert (await api.call(api.anna, "POST", f"/jobs/{job_id}/retry")).problem == "conflict"


@asynchronous
async def test_who_cannot_renew_ends_before_another_begins(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    job_id = await ask_for(api, api.anna, stops_at=4)
    line = BrokenLine(api.services.jobs)
    api.services.jobs = line  # type: ignore[assignment]
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    await until(lambda: one.gate, "the gate")
    line.broken = True
    await one.pass_time(LEASE - 3 * TURN)
    assert one.runner.running == 1
    await one.pass_time(2 * TURN)
    await until(lambda: one.runner.running == 0, "its end")
    assert state_of(api, job_id) == "running"
    let_its_lease_end(api, job_id)
    line.broken = False
    await one.pass_time(LOOK + TURN)
    await until(lambda: one.runner.running == 1, "the next attempt")
    assert api.ask("SELECT attempts, cursor FROM jobs") == [{"attempts": 2, "cursor": 4}]


@asynchronous
async def test_so_many_of_a_kind_run_at_once(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    for _ in range(3):
        await ask_for(api, api.anna, stops_at=0)
    for name in ("one", "two"):
        hands[name] = Farmhand(api, name, at_once=2)
        hands[name].runner.start()
    await until(lambda: sum(each.runner.running for each in hands.values()) == 2, "two of them")
    await pause(0.2)
    assert api.ask("SELECT state, count(*) FROM jobs GROUP BY 1 ORDER BY 1") == [
        {"state": "queued", "count": 1},
        {"state": "running", "count": 2},
    ]
    assert [each.runner.waiting for each in hands.values()] == [1, 1]


@asynchronous
async def test_the_log_is_bounded_and_old_jobs_go(api: ApiWorld, hands: dict[str, Farmhand]) -> None:
    old, new = await ask_for(api, api.anna), await ask_for(api, api.anna)
    one = hands["one"] = Farmhand(api, "one")
    one.runner.start()
    for each in (old, new):
        await until_state(api, each, "succeeded")
    api.ask("UPDATE jobs SET ended_at = now() - %s * interval '1 day' WHERE id = %s", KEPT_DAYS + 1, old)
    one.clock.advance(TURN)
    await pause(0.1)
    one.clock.advance(TIDY)
    await until(lambda: len(api.ask("SELECT 1 FROM jobs")) == 1, "the old one's end")
    third = await ask_for(api, api.anna, stops_at=0)
    one.bells.ring("qvd_jobs")
    await until(lambda: one.gate, "the gate")
    context = one.contexts[-1]
    for number in range(500):
        context.log(f"line {number}")
    await context.note()
    context.log("the last")
    await context.note()
    log = (await api.call(api.anna, "GET", f"/jobs/{third}")).body["log"]
    assert len(log) == 200 and log[-1].endswith(" the last") and log[0].endswith(" line 301")


@pytest.mark.acceptance(3)
@asynchronous
async def test_whose_jobs_one_sees(api: ApiWorld) -> None:
    colleague = api.administrator("amy", api.acme, "acme")
    annas, ricks = await ask_for(api, api.anna), await ask_for(api, api.rick)
    absent = (await api.call(api.anna, "GET", "/jobs/999999")).body
    for principal in (api.anna, api.with_only(api.anna)):
        found = await api.call(principal, "GET", "/jobs")
        assert [each["id"] for each in found.body["items"]] == [annas] and found.body["page"]["total"] == 1
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
            foreign = await api.call(principal, method, f"/jobs/{ricks}{path}")
            assert foreign.body | {"instance": ""} == absent | {"instance": ""}
    plain = api.with_only(colleague)
    assert (await api.call(plain, "GET", "/jobs")).body["items"] == []
    assert (await api.call(plain, "GET", f"/jobs/{annas}")).status == 404
    assert (await api.call(plain, "DELETE", f"/jobs/{annas}")).status == 404
    seeing = api.with_only(colleague, "job.see-main.")
    assert (await api.call(seeing, "GET", f"/jobs/{annas}")).status == 200
    assert (await api.call(seeing, "DELETE", f"/jobs/{annas}")).problem == "forbidden"
    ending = api.with_only(colleague, "job.see-main.", "job.cancel.")
    assert (await api.call(ending, "DELETE", f"/jobs/{annas}")).body["state"] == "cancelled"
    assert {each["id"] for each in (await api.call(api.boss, "GET", "/jobs")).body["items"]} == {annas, ricks}
