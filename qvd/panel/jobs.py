# -*- test-case-name: tests.panel.test_jobs -*-
"""Jobs: what the service does in the background, how far it is, and ending it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.charts import share
from qvd.panel.differences import written_out
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit

JOBS = "/panel/jobs"
STATES = (N_("queued"), N_("running"), N_("succeeded"), N_("failed"), N_("cancelled"), N_("partial"))
FILTERS = ("state", "kind", "administrator_name")
DONE = {
    "cancel": N_("The job will end soon; what it has done stays."),
    "retry": N_("The job goes on with what was left over."),
}


def jobs(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", JOBS, show_all),
        Route("GET", f"{JOBS}/<id>", show),
        Route("POST", f"{JOBS}/<id>/cancel", cancel),
        Route("POST", f"{JOBS}/<id>/retry", retry),
    ]


def filters_of(visit: Visit, names: Sequence[str]) -> dict[str, str]:
    """Those that the address has, C{state[in]} for C{state} as well."""
    pairs = visit.query.pairs
    return {name: value for name, value in pairs if value and name.partition("[")[0] in names}


async def show_all(visit: Visit) -> Answer:
    chosen = filters_of(visit, FILTERS)
    query: dict[str, str] = {"sort": "-id", "include": "actions", **chosen}
    if visit.query.one("cursor"):
        query["cursor"] = visit.query.one("cursor")
    found = await visit.get("/jobs", query)
    return visit.page(
        "jobs.html", jobs=found["items"], at=found["page"], chosen=chosen, states=STATES, share=share, done=""
    )


async def show(visit: Visit) -> Answer:
    return await job_page(visit, None)


async def job_page(visit: Visit, problem: Reply | None) -> Answer:
    """One of them. While it runs, the page follows it."""
    job = await visit.get(f"/jobs/{visit.path['id']}", {"include": "actions"})
    progress: Mapping[str, float] = job["progress"]
    ended = job["ended_at"] is not None
    return visit.page(
        "job.html",
        200 if problem is None else problem.status,
        job=job,
        percent=share(progress["done"], progress["total"]),
        topics="" if ended else f"job:{job['id']}",
        problem=problem,
        written_out=written_out,
        done="" if ended and visit.query.one("done") == "cancel" else DONE.get(visit.query.one("done"), ""),
    )


async def cancel(visit: Visit) -> Answer:
    return await acted(visit, await visit.api("DELETE", f"/jobs/{visit.path['id']}"), "cancel")


async def retry(visit: Visit) -> Answer:
    return await acted(visit, await visit.api("POST", f"/jobs/{visit.path['id']}/retry"), "retry")


async def acted(visit: Visit, reply: Reply, done: str) -> Answer:
    if not reply.ok:
        return await job_page(visit, reply)
    return visit.go(f"{JOBS}/{visit.path['id']}", {"done": done})
