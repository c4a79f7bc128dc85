# -*- test-case-name: tests.panel.test_home,tests.browser.test_screens -*-
"""The first page: what is wrong now, with a link to it; then figures, as far as the caller may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from qvd.admin.call import Answer
from qvd.panel import charts
from qvd.panel.calls import Reply
from qvd.panel.site import HOME, Panel, Route
from qvd.panel.texts import N_
from qvd.panel.troubles import troubles
from qvd.panel.visit import Visit, together

VM_STATES = (N_("running"), N_("starting"), N_("stopping"), N_("stopped"), N_("zombie"))
MOST_NODES, MOST_EXPIRING = 12, 8
FIGURES = (
    ("users", N_("Users"), "/panel/users"),
    ("vms", N_("VMs"), "/panel/vms"),
    ("hosts", N_("Nodes"), "/panel/hosts"),
    ("osfs", N_("OSFs"), "/panel/osfs"),
    ("images", N_("Disk images"), "/panel/images"),
)
DONE = {"password": N_("Your password is changed; other sessions of yours have ended.")}


@frozen
class Load:
    """How much a node has to do.

    @ivar memory: per cent of it that is reserved or in use. C{cpu}: of its cores that are busy.
    """

    host: Mapping[str, Any]
    memory: float | None
    cpu: float | None


def home(panel: Panel) -> Sequence[Route]:
    """The page."""
    return [Route("GET", HOME, show_home)]


async def show_home(visit: Visit) -> Answer:
    stats, expirations, hosts = await together(
        part(visit, "/stats"),
        part(visit, "/stats/expirations", {"limit": str(MOST_EXPIRING)}),
        part(visit, "/hosts", {"sort": "name", "limit": str(MOST_NODES), "state": "running"}),
    )
    known: Mapping[str, Any] = stats.body if stats.ok else {}
    return visit.page(
        "home.html",
        troubles=await troubles(visit),
        figures=[(name, title, path, known[name]) for name, title, path in FIGURES if name in known],
        vms=vm_states(known),
        connected=connected(known.get("users", {})),
        loads=[load(host) for host in hosts.body["items"]] if hosts.ok else [],
        expirations=expirations.body if expirations.ok else None,
        level=charts.level,
        topics="stats" if stats.ok else "",
        done=DONE.get(visit.query.one("done"), ""),
    )


async def part(visit: Visit, path: str, query: Mapping[str, str] | None = None) -> Reply:
    """A part of the page, where the caller may see it."""
    if not visit.may("GET", path):
        return Reply(403, None)
    return await visit.api("GET", path, query)


def vm_states(known: Mapping[str, Any]) -> Sequence[charts.Part]:
    """In the order in which the ring shows them."""
    counts = known.get("vms", {}).get("by_state", {})
    return charts.parts((state, int(counts.get(state, 0))) for state in VM_STATES)


def connected(users: Mapping[str, int]) -> Sequence[charts.Part]:
    """Users that have a desktop on their screen, and the others."""
    if "connected" not in users:
        return []
    return charts.parts([("connected", users["connected"]), ("others", users["total"] - users["connected"])])


def load(host: Mapping[str, Any]) -> Load:
    """Of what a node says of itself; what the caller may not see is not there."""
    memory, free = host.get("memory"), host.get("free_memory")
    cores, idle = host.get("cores"), host.get("idle_cores")
    return Load(
        host,
        None if memory is None or free is None else charts.share(memory - free, memory),
        None if cores is None or idle is None else charts.share(cores - idle, cores),
    )
