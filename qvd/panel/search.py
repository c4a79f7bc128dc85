# -*- test-case-name: tests.panel.test_search -*-
"""Objects of all kinds, found by name or number."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.admin.call import Answer
from qvd.panel.site import Panel, Route
from qvd.panel.visit import Visit
from qvd.panel.words import KINDS

LIMIT = "20"


def search(panel: Panel) -> Sequence[Route]:
    """The page."""
    return [Route("GET", "/panel/search", show_search)]


async def show_search(visit: Visit) -> Answer:
    """What there is of a name. Where it is one thing only, its page."""
    text = visit.query.one("q").strip()[:200]
    groups: dict[str, list[tuple[str, str]]] = {}
    more: Sequence[str] = []
    if text:
        found = await visit.get("/search", {"q": text, "limit": LIMIT})
        more = found["more"]
        for each in found["items"]:
            path = f"/panel/{each['collection']}/{each['id']}"
            groups.setdefault(each["collection"], []).append((path, each["name"]))
        if len(found["items"]) == 1:
            return visit.go(next(iter(groups.values()))[0][0])
    titled = [(KINDS.get(name, (name,))[0], those) for name, those in groups.items()]
    return visit.page("search.html", asked=text, groups=titled, more=bool(more))
