# -*- test-case-name: tests.panel.test_forms -*-
"""Other objects, as forms name them: chosen from a list that is searched, typed as a name, or as a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from qvd.admin.call import Answer
from qvd.panel.filters import escaped
from qvd.panel.kinds import ObjectKind
from qvd.panel.lists import page_for
from qvd.panel.site import Panel, Route
from qvd.panel.visit import Visit

FIRST = 100
"""Objects that a form offers at once; others are found by searching."""
NUMBERED = re.compile(r"(?:.*\(#|#?)([0-9]{1,10})\)?", re.DOTALL)
KNOWN_BY = {"images": "version", "properties": "key", "jobs": "kind"}


async def options_of(visit: Visit, collection: str, text: str = "", plain: bool = False) -> Sequence[tuple[str, str]]:
    """Objects to choose from: what is typed for each, and how it is called.

    @param plain: the numbers alone are sent.
    """
    name = KNOWN_BY.get(collection, "name")
    query = {"limit": str(FIRST), "sort": name, "count": "false", "fields": name}
    if text:
        query[f"{name}[ilike]"] = f"%{escaped(text)}%"
    reply = await visit.api("GET", f"/{collection}", query)
    if not reply.ok:
        return []
    return [
        (str(each["id"]) if plain else f"{each.get(name)} (#{each['id']})", str(each.get(name)))
        for each in reply.body["items"]
    ]


async def number_named(visit: Visit, collection: str, text: str) -> int | None:
    """The number of what somebody typed: C{alice (#5)}, C{5} or C{alice}; L{None}: there is none, or several."""
    found = NUMBERED.fullmatch(text)
    if found is not None:
        return int(found[1])
    name = KNOWN_BY.get(collection, "name")
    reply = await visit.api(
        "GET", f"/{collection}", {f"{name}[ilike]": escaped_whole(text), "limit": "2", "fields": name}
    )
    items = reply.body["items"] if reply.ok else []
    return int(items[0]["id"]) if len(items) == 1 else None


def escaped_whole(text: str) -> str:
    """As a pattern that nothing else matches."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def reference_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """What the script of forms asks for."""

    def screens(panel: Panel) -> Sequence[Route]:
        return [Route("GET", f"{kind.path}/options", page_for(kind, show_options)) for kind in kinds.values()]

    return screens


async def show_options(visit: Visit, kind: ObjectKind) -> Answer:
    """Those that match what is typed."""
    found = await options_of(visit, kind.collection, visit.query.one("q"))
    body = msgspec.json.encode([value for value, _ in found])
    return Answer(200, body)
