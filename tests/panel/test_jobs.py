"""Jobs on pages."""

from __future__ import annotations

import json
from typing import Any

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


def job(world: ApiWorld, state: str = "queued", **more: Any) -> int:
    ended = "now()" if state in ("failed", "succeeded") else "NULL"
    return world.insert(
        "jobs (kind, state, tenant_id, administrator_id, administrator_name, acls, request_id, client_address,"
        f" arguments, done, total, unit, log, problem, ended_at) VALUES ('vms.bulk', %s, %s, %s, 'anna', '{{}}', 'r',"
        f" '', '{{\"name\": \"<b>\"}}', 40, 120, 'VMs', %s, %s, {ended})",
        state,
        world.acme,
        world.anna.administrator_id,
        more.get("log", ["begun <i>"]),
        json.dumps(more["problem"]) if "problem" in more else None,
    )


@asynchronous
async def test_a_job_says_how_far_it_is_and_can_be_cancelled(anna: Browser, logins: ApiWorld) -> None:
    number = job(logins)
    page = sound(await anna.get("/panel/jobs"))
    assert "vms.bulk" in page.main.text and page.main.one("svg", class_="bar")["aria-label"] == "Progress: 33.3 %"
    page = sound(await anna.get(f"/panel/jobs/{number}"))
    assert page.main.one("progress")["value"] == "33.3"
    assert "begun <i>" in page.main.text and '"name": "<b>"' in page.main.text
    assert page.main.one("div", id="job")["data-fresh"] == f"job:{number}"
    path = f"/panel/jobs/{number}/cancel"
    page = sound(await anna.post(path, page.form(path)))
    assert "cancelled" in page.main.text
    page = sound(await anna.post(path, {"_csrf": page.form("/panel/logout")["_csrf"]}))
    assert page.status == 409 and page.main.all("div", class_="trouble")


@asynchronous
async def test_a_failed_job_says_why_and_goes_on(anna: Browser, logins: ApiWorld) -> None:
    problem = {"type": "/problems/conflict", "title": "The state does not allow it", "detail": "It runs <u>"}
    number = job(logins, "failed", problem=problem)
    page = sound(await anna.get(f"/panel/jobs/{number}"))
    assert "It runs <u>" in page.main.text and page.main.one("div", id="job")["data-fresh"] == ""
    path = f"/panel/jobs/{number}/retry"
    assert "The job goes on" in sound(await anna.post(path, page.form(path))).root.text


@asynchronous
async def test_jobs_are_narrowed_by_the_address(anna: Browser, logins: ApiWorld) -> None:
    job(logins)
    assert "There are none" in sound(await anna.get("/panel/jobs?state=failed")).main.text
    assert "vms.bulk" in sound(await anna.get("/panel/jobs?state[in]=queued,running")).main.text
