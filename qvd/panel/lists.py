# -*- test-case-name: tests.panel.test_lists -*-
"""Pages that list the objects of a kind: any kind, as it is declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from qvd.admin.call import Answer
from qvd.model.declared import Field
from qvd.panel.calls import Reply
from qvd.panel.cells import NO, YES, cell, compact, type_of
from qvd.panel.filters import Condition, as_query, chip, conditions_of, controls, operators, tidied
from qvd.panel.kinds import ObjectKind, number_of
from qvd.panel.problems import advice
from qvd.panel.site import Panel, Route
from qvd.panel.visit import Visit
from qvd.panel.words import action_label, kind_words, label, word

USUAL: Mapping[str, tuple[str, str]] = {
    "administrators": ("name description blocked roles created_at tenant_name", "name blocked tenant_name"),
    "hosts": (
        "name state blocked drain address number_of_vms_running number_of_sessions free_memory cpu_pressure",
        "name state blocked",
    ),
    "images": (
        "version osf_name state tags default number_of_running_vms size published_at tenant_name",
        "version osf_name state blocked",
    ),
    "jobs": ("kind state object_name administrator_name created_at ended_at", "kind state administrator_name"),
    "log": ("at action outcome object_name administrator_name client_address", "at action outcome administrator_name"),
    "osfs": ("name memory cpus number_of_vms number_of_images persistence tenant_name", "name tenant_name"),
    "properties": ("key type kinds description tenant_name", "key type"),
    "roles": ("name description fixed internal roles tenant_name", "name fixed internal"),
    "tenants": ("name description blocked language created_at", "name blocked"),
    "users": (
        "name description blocked number_of_vms created_at tenant_name",
        "name blocked number_of_vms tenant_name",
    ),
    "vms": (
        "name state user_state user_name osf_name di_tag host_name blocked since tenant_name",
        "name state user_state user_name osf_name host_name blocked tenant_name",
    ),
}
"""Columns and filters where neither the caller nor the tenant chose any. A name that the caller may not see is passed
over."""
LIMITS = (10, 25, 50, 100, 200, 500)
PARTS = ("columns", "filters_desktop", "filters_mobile")


@frozen
class Column:
    """A field, as the head of a column."""

    name: str
    label: str
    field: Field

    @property
    def type(self) -> str:
        return type_of(self.field)


@frozen
class Asked:
    """What a list's page is asked for.

    @ivar view: columns and filters that the API has stored for the caller.
    """

    conditions: Sequence[Condition]
    columns: Sequence[Column]
    sort: str
    limit: str
    cursor: str
    view: Mapping[str, Any]

    def address(self, path: str, **changed: str) -> str:
        """Of the same list with something else; without a cursor, where nothing is said of it."""
        return f"{path}?{urlencode(self.pairs(**changed))}".removesuffix("?")

    def pairs(self, **changed: str) -> list[tuple[str, str]]:
        chosen = "" if self._names == list(self.view.get("columns", ())) else ",".join(self._names)
        own = {"sort": self.sort, "limit": self.limit, "columns": chosen, **changed}
        return [*as_query(self.conditions), *((name, value) for name, value in own.items() if value)]

    @property
    def _names(self) -> list[str]:
        return [each.name for each in self.columns]


def list_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """The pages of all kinds."""

    def screens(panel: Panel) -> Sequence[Route]:
        found = []
        for kind in kinds.values():
            found += [
                Route("GET", kind.path, page_for(kind, show_list)),
                Route("POST", f"{kind.path}/view", page_for(kind, save_view)),
            ]
        return found

    return screens


def page_for(
    kind: ObjectKind, shows: Callable[[Visit, ObjectKind], Awaitable[Answer]]
) -> Callable[[Visit], Awaitable[Answer]]:
    """A page that is the same for all kinds, of one."""

    async def show(visit: Visit) -> Answer:
        return await shows(visit, kind)

    return show


async def show_list(visit: Visit, kind: ObjectKind) -> Answer:
    """The page."""
    tidy = tidied(kind, visit.query, visit.viewer.zone)
    if list(visit.query.pairs) != tidy:
        return visit.go(kind.path, tidy)
    asked = await asked_for(visit, kind)
    reply = await visit.api("GET", f"/{kind.collection}", query_of(kind, asked, visit))
    many, one, new = kind_words(kind)
    found = reply.body if reply.ok else {"items": [], "page": {}}
    return visit.page(
        "list.html",
        reply.status,
        kind=kind,
        many=many,
        one=one,
        new=new if may_make(visit, kind) else "",
        asked=asked,
        problem=None if reply.ok else reply,
        advice="" if reply.ok else advice(reply.kind),
        rows=[row_of(visit, kind, asked, each) for each in found["items"]],
        paging=found["page"],
        chips=[
            (chip(visit.viewer, kind, each), asked_without(asked, each).address(kind.path)) for each in asked.conditions
        ],
        controls=controls(visit, kind, asked.view.get("filters_desktop", ()), asked.conditions),
        fields=[(each.name, label(each.name)) for each in kind.visible(visit.principal) if each.filters],
        operators=operators(),
        columns=[(each.name, label(each.name)) for each in kind.columns(visit.principal)],
        heads=[head_of(kind, asked, each) for each in asked.columns],
        actions=bulk_actions(visit, kind),
        words=words_of(visit, asked),
        limits=LIMITS,
        topic=topic_of(kind, asked, visit),
        saves=saves(visit),
    )


async def asked_for(visit: Visit, kind: ObjectKind) -> Asked:
    """What the address says, and where it says nothing, what the caller chose once."""
    reply = await visit.api("GET", f"/me/views/{kind.name}")
    query, able = visit.query, {each.name: each for each in kind.columns(visit.principal)}
    view = usual(kind, able, reply.body if reply.ok else {})
    named = query.one("columns").split(",") if query.one("columns") else list(view.get("columns", ()))
    columns = [made for name in dict.fromkeys(named) if (made := column_of(able, name)) is not None]
    identity = column_of(able, kind.known_by)
    if identity is not None and identity not in columns:
        columns.insert(0, identity)
    return Asked(conditions_of(query), columns, query.one("sort"), query.one("limit"), query.one("cursor"), view)


def usual(kind: ObjectKind, able: Container[str], view: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was chosen, or what shows most at a glance."""
    if view.get("origin") != "default" or kind.collection not in USUAL:
        return view
    columns, filters = ([name for name in names.split() if name in able] for names in USUAL[kind.collection])
    return {**view, "columns": columns, "filters_desktop": filters}


def column_of(able: Mapping[str, Field], name: str) -> Column | None:
    return Column(name, label(name), able[name]) if name in able else None


def field_names(kind: ObjectKind, asked: Asked, visit: Visit) -> list[str]:
    """What the API is asked for: the columns, and the numbers of what they name."""
    seen = {each.name for each in kind.visible(visit.principal)}
    found = []
    for each in asked.columns:
        others = (number_of(each.name), each.name.replace("version", "id"))
        found += [name for name in (each.name, *others) if name in seen]
        if each.name == "object_name":
            found += [name for name in ("object_kind", "kind", "object_id") if name in seen]
    return list(dict.fromkeys(found))


def query_of(kind: ObjectKind, asked: Asked, visit: Visit) -> Mapping[str, list[str]]:
    """The page's own address, as a query of the API."""
    query: dict[str, list[str]] = {}
    own = {"sort": asked.sort, "limit": asked.limit, "cursor": asked.cursor}
    own["fields"] = ",".join(field_names(kind, asked, visit))
    for name, value in [*as_query(asked.conditions), *own.items()]:
        if value:
            query.setdefault(name, []).append(value)
    return query


def asked_without(asked: Asked, condition: Condition) -> Asked:
    others = [each for each in asked.conditions if each is not condition]
    return Asked(others, asked.columns, asked.sort, asked.limit, "", asked.view)


def row_of(visit: Visit, kind: ObjectKind, asked: Asked, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row, for the template."""
    cells = [cell(visit, kind, each.field, item) for each in asked.columns]
    name = str(item.get(kind.known_by) or item["id"])
    return {"id": item["id"], "name": name, "cells": cells, "href": f"{kind.path}/{item['id']}"}


def head_of(kind: ObjectKind, asked: Asked, column: Column) -> Mapping[str, str]:
    """A column's head: its text, how the list is sorted by it, and the address that sorts it so."""
    able = column.field.sorts and not column.field.parameters
    sorted_by = asked.sort.split(",")[0]
    way = "ascending" if sorted_by == column.name else "descending" if sorted_by == f"-{column.name}" else ""
    wanted = f"-{column.name}" if way == "ascending" else column.name
    href = asked.address(kind.path, sort=wanted) if able else ""
    return {"label": column.label, "way": way, "href": href, "name": column.name, "type": column.type}


def bulk_actions(visit: Visit, kind: ObjectKind) -> Sequence[tuple[str, str]]:
    """What the caller may do with many."""
    names = kind.bulk_names if kind.bulk is not None and kind.bulk.need.is_met(visit.principal) else ()
    allowed = [name for name in names if name in kind.actions and kind.actions[name].need.is_met(visit.principal)]
    return [(name, action_label(name)) for name in allowed]


def may_make(visit: Visit, kind: ObjectKind) -> bool:
    return kind.creation is not None and kind.creation.need.is_met(visit.principal)


def words_of(visit: Visit, asked: Asked) -> str:
    """What the script writes into cells, where a state changes."""
    words: dict[str, str] = {"true": visit.viewer.text(YES), "false": visit.viewer.text(NO)}
    for each in asked.columns:
        words |= {choice: visit.viewer.text(word(each.field, choice)) for choice in each.field.choices}
    return compact(words)


def topic_of(kind: ObjectKind, asked: Asked, visit: Visit) -> str:
    """What the script watches: the same list."""
    pairs = [*as_query(asked.conditions), ("fields", ",".join(field_names(kind, asked, visit)))]
    return f"{kind.collection}?{urlencode(pairs)}"


def saves(visit: Visit) -> Sequence[str]:
    """For whom the caller may keep how a list looks."""
    return ["own", *(["tenant"] if visit.may("PUT", "/views/{section}") else [])]


async def save_view(visit: Visit, kind: ObjectKind) -> Answer:
    """Keep columns and filters, for oneself or for the tenant; or forget what was kept."""
    form = visit.form
    path = f"/views/{kind.name}" if form.one("whose") == "tenant" else f"/me/views/{kind.name}"
    if form.one("what") == "reset":
        reply: Reply = await visit.api("DELETE", path)
    else:
        columns = [each for each in form.one("columns").split(",") if each]
        filters = [each for each in dict.fromkeys(form.one("filters").split(",")) if each]
        body = {"columns": columns, "filters_desktop": filters, "filters_mobile": filters[:3]}
        reply = await visit.api("PUT", path, None, body)
    if not reply.ok:
        return visit.page("problem.html", reply.status, problem=reply, advice=advice(reply.kind))
    return visit.go(kind.path, {"saved": "1"})
