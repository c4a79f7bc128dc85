# -*- test-case-name: tests.panel.test_log -*-
"""The audit trail: who did what, and what became of it, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer
from qvd.panel.differences import difference, written_out
from qvd.panel.jobs import filters_of
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit, together

LOG = "/panel/log"
OUTCOMES = (N_("done"), N_("denied"), N_("failed"))
FILTERS = ("action", "outcome", "kind", "object_id", "object_name", "administrator_name", "at", "request_id")
PLACES = {
    "user": "users",
    "vm": "vms",
    "host": "hosts",
    "osf": "osfs",
    "di": "images",
    "tenant": "tenants",
    "administrator": "administrators",
    "role": "roles",
    "property": "properties",
    "job": "jobs",
}
"""Where objects of a kind are looked at."""


def log(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [Route("GET", LOG, show_all), Route("GET", f"{LOG}/<id>", show)]


async def show_all(visit: Visit) -> Answer:
    chosen = filters_of(visit, FILTERS)
    query = {**chosen, "cursor": visit.query.one("cursor")} if visit.query.one("cursor") else chosen
    rows, facets, histogram = await together(
        visit.api("GET", "/log", query),
        visit.api("GET", "/log/facets", chosen),
        visit.api("GET", "/log/histogram", chosen),
    )
    found = rows.body if rows.ok else await visit.get("/log", query)
    return visit.page(
        "log.html",
        rows=found["items"],
        at=found["page"],
        chosen=chosen,
        facets=facets.body["facets"] if facets.ok else {},
        days=histogram.body["items"] if histogram.ok else [],
        place=place,
        done="",
    )


async def show(visit: Visit) -> Answer:
    """One row, with what was sent and what it changed."""
    row: Mapping[str, Any] = await visit.get(f"/log/{visit.path['id']}")
    lines = difference(row.get("before"), row.get("after"))
    return visit.page("entry.html", row=row, lines=lines, place=place, written_out=written_out, done="")


def place(row: Mapping[str, Any]) -> str:
    """Of the object that a row is about; empty: it has no page, or is gone."""
    collection = PLACES.get(str(row.get("kind")))
    gone = str(row["action"]).endswith(".delete") and row["outcome"] == "done"
    return f"/panel/{collection}/{row['object_id']}" if collection and row.get("object_id") and not gone else ""
