# -*- test-case-name: tests.panel.test_config_screen -*-
"""Configuration: what counts, where it is set, and setting it, for the installation, a tenant or a node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit, together

CONFIG = "/panel/config"
PLACES = ("tenant_id", "host_id")
MOST_PLACES = "500"
SOURCES = (N_("built-in"), N_("global"), N_("tenant"), N_("host"))
DONE = {"set": N_("The value is set."), "reset": N_("It is not set here any more: the wider value counts.")}


def config(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", CONFIG, show_all),
        Route("GET", f"{CONFIG}/<key>", show),
        Route("POST", f"{CONFIG}/<key>", change),
        Route("POST", f"{CONFIG}/<key>/reset", reset),
    ]


def place_of(visit: Visit) -> dict[str, str]:
    """For whom: C{scope} is C{tenant:7} or C{host:3}; empty: the installation, or the caller's own tenant."""
    kind, _, number = visit.query.one("scope").partition(":")
    return {f"{kind}_id": number} if f"{kind}_id" in PLACES and number else {}


async def places(visit: Visit) -> Sequence[tuple[str, str, str]]:
    """For whom there may be values of their own: scope, kind, name. Only who is over all tenants has a choice."""
    if not visit.session["superadmin"] and visit.session["multitenant"]:
        return ()
    query = {"fields": "id,name", "limit": MOST_PLACES, "sort": "name"}
    found: list[tuple[str, str, str]] = []
    kinds = [
        (kind, path)
        for kind, path in (("tenant", "/tenants"), ("host", "/hosts"))
        if visit.may("GET", path) and (kind == "host" or visit.session["superadmin"])
    ]
    replies = await together(*(visit.api("GET", path, query) for _, path in kinds))
    for (kind, _), reply in zip(kinds, replies, strict=True):
        if reply.ok:
            # The tenant of all tenants' administrators, and that of what they share, have no values.
            items = [item for item in reply.body["items"] if kind == "host" or item["id"] > 0]
            found += [(f"{kind}:{item['id']}", kind, str(item["name"])) for item in items]
    return found


async def show_all(visit: Visit) -> Answer:
    query = place_of(visit)
    text, modified = visit.query.one("q").strip(), visit.query.one("modified") == "true"
    if text:
        query["q"] = text
    if modified:
        query["modified"] = "true"
    keys = await visit.get("/config", query)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for key in keys["items"]:
        groups.setdefault(str(key["key"]).partition(".")[0], []).append(key)
    return visit.page(
        "config.html",
        groups=groups,
        text_of=text_of,
        q=text,
        modified=modified,
        scope=visit.query.one("scope"),
        places=await places(visit),
        done="",
    )


async def show(visit: Visit) -> Answer:
    return await key_page(visit, None)


async def key_page(visit: Visit, problem: Reply | None) -> Answer:
    """One key: its value, and how it has changed."""
    key, place = segment(visit.path["key"]), place_of(visit)
    found = await visit.get(f"/config/{key}", place)
    history = None
    if "log.see-main." in visit.acls:
        reply = await visit.api("GET", "/config/history", {"key": key, "limit": "20"})
        history = reply.body["items"] if reply.ok else None
    return visit.page(
        "key.html",
        200 if problem is None else problem.status,
        key=found,
        typed=visit.form.one("value", text_of(found["value"])),
        text_of=text_of,
        history=history,
        scope=visit.query.one("scope"),
        places=await places(visit),
        problem=problem,
        done=DONE.get(visit.query.one("done"), ""),
    )


def text_of(value: Any) -> str:
    """As it stands in a field."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def value_of(text: str, kind: str) -> Any:
    """What was typed, as JSON has it. What is none of that kind goes on as a text, and the API says so."""
    if kind == "text":
        return text
    try:
        return json.loads(text.strip().lower())
    except ValueError:
        return text


async def change(visit: Visit) -> Answer:
    """Set it."""
    key, place = segment(visit.path["key"]), place_of(visit)
    known = await visit.get(f"/config/{key}", place)
    value = value_of(visit.form.one("value").replace("\r\n", "\n"), str(known["type"]))
    numbers = {name: int(number) for name, number in place.items() if number.isascii() and number.isdigit()}
    reply = await visit.api("PUT", f"/config/{key}", None, {"value": value, **numbers})
    return await key_page(visit, reply) if not reply.ok else back(visit, "set")


async def reset(visit: Visit) -> Answer:
    """Set it here no more."""
    reply = await visit.api("DELETE", f"/config/{segment(visit.path['key'])}", place_of(visit))
    return await key_page(visit, reply) if not reply.ok else back(visit, "reset")


def back(visit: Visit, done: str) -> Answer:
    scope = visit.query.one("scope")
    return visit.go(f"{CONFIG}/{visit.path['key']}", {"done": done} | ({"scope": scope} if scope else {}))
