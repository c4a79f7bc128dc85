# -*- test-case-name: tests.panel.test_details -*-
"""The page of one object, of any kind: its fields in groups, what belongs to it, what can be done with it, why it is as
it is, and what was done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from qvd.admin.call import Answer
from qvd.model.declared import Field
from qvd.panel.acts import acts_of, number_in
from qvd.panel.calls import Reply
from qvd.panel.cells import Cell, cell, compact, type_of
from qvd.panel.kinds import ObjectKind, name_of
from qvd.panel.more import more_of
from qvd.panel.propertyvalues import values_of
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Refused, Visit, together
from qvd.panel.words import kind_words, label

SHORT, HAPPENED, ENTRIES = 5, 20, 10
"""Rows of lists within the page: of related objects, of events, of the audit log."""
GENERAL = N_("General")
GROUPS: Sequence[tuple[str, tuple[str, ...]]] = (
    (N_("Placement"), ("host_id", "host_name", "desired_state", "ordered_at", "order_pending", "restarting")),
    (
        N_("Run"),
        ("phase", "detail", "since", "last_error", "failures", "retry_at", "last_answer", "progress", "attempts"),
    ),
    (N_("Session"), ("user_state", "client_address", "session_since")),
    (
        N_("Image"),
        ("di_", "osf_", "tags", "future_tags", "default", "published_at", "auto_publish", "checksum", "path"),
    ),
    (N_("Expiration"), ("expiration_", "expire_")),
    (N_("Network"), ("ip", "ip_in_use", "mac", "address")),
    (N_("Hardware"), ("memory", "free_memory", "available_memory", "cpu", "cores", "idle_cores", "memory_pressure")),
    (N_("Life"), ("heartbeat_at", "lease_", "drain", "decommissioned")),
    (N_("What it was about"), ("object_", "arguments", "before", "after", "result", "problem", "log")),
    (N_("Origin"), ("created_", "started_at", "ended_at", "tenant_", "request_id", "holder")),
)
"""Fields by their names, or how these begin; all others are general. A field belongs to the first that fits."""
WATCHED = frozenset({"tenant", "administrator", "role", "user", "osf", "di", "host", "vm", "job", "property"})
"""Kinds whose objects can be followed one by one."""
EXPLAINED = "vms"


@frozen
class Row:
    """A field of the page."""

    label: str
    help: str
    cell: Cell


def detail_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """The pages of all kinds."""

    def screens(panel: Panel) -> Sequence[Route]:
        return [Route("GET", f"{kind.path}/<id>", Detail(kind, kinds).show) for kind in kinds.values()]

    return screens


@frozen
class Detail:
    """The page of one kind's objects.

    @ivar kinds: all kinds, for what belongs to an object.
    """

    kind: ObjectKind
    kinds: Mapping[str, ObjectKind]

    async def show(self, visit: Visit) -> Answer:
        kind, number = self.kind, number_in(visit)
        reply = await visit.api("GET", f"/{kind.collection}/{number}", {"include": "actions"})
        if not reply.ok:
            raise Refused(reply)
        item = reply.body
        others = [name for name, each in kind.related.items() if each.need.is_met(visit.principal)]
        lists = await together(*(self._related(visit, name, number) for name in others))
        found = dict(zip(others, lists, strict=True))
        audit = found.pop("log", None)
        why, happened = await self._read(visit, number, "explain"), await self._read(visit, number, "events")
        return visit.page(
            "detail.html",
            kind=kind,
            words=kind_words(kind),
            item=item,
            name=str(item.get(kind.known_by) or item["id"]),
            groups=[*groups_of(visit, kind, item), *self._properties(await values_of(visit, kind, number))],
            acts=acts_of(visit, kind, item),
            more=more_of(visit, kind.collection, item),
            related=[self._table(visit, name, answer, number) for name, answer in found.items() if answer.ok],
            audit=self._audit(visit, audit) if audit is not None and audit.ok else None,
            explanation=why.body if why is not None and why.ok else None,
            unexplained=why if why is not None and not why.ok and why.status >= 500 else None,
            events=events_of(visit, happened.body) if happened is not None and happened.ok else None,
            topic=f"{kind.name}:{number}" if kind.name in WATCHED else "",
            states=compact(states_of(visit, kind)),
        )

    def _properties(self, values: Sequence[Mapping[str, Any]]) -> Sequence[tuple[str, Sequence[Row]]]:
        """Those that count for it, each with whose it is."""
        rows = []
        for each in values:
            origin = str(each.get("origin", self.kind.name))
            name = each["key"] if origin == self.kind.name else f"{each['key']} ({origin})"
            value = "***" if each["type"] == "secret" else each["value"]
            rows.append(Row(name, str(each["description"]), text_cell(each["key"], value)))
        return [(N_("Properties"), rows)] if rows else []

    async def _related(self, visit: Visit, name: str, number: str) -> Reply:
        """A few of what belongs to it."""
        limit = ENTRIES if name == "log" else SHORT
        path = self.kind.related[name].path.replace("{id}", number)
        return await visit.api("GET", path, {"limit": str(limit)})

    async def _read(self, visit: Visit, number: str, what: str) -> Reply | None:
        """What the API tells of one object beyond its fields, where it tells it, and to whom it does."""
        template = f"/{self.kind.collection}/{{id}}/{what}"
        if not visit.may("GET", template):
            return None
        query = {"limit": str(HAPPENED)} if what == "events" else None
        return await visit.api("GET", template.replace("{id}", number), query)

    def _table(self, visit: Visit, name: str, reply: Reply, number: str) -> Mapping[str, Any]:
        """A short list of related objects."""
        kind = self.kinds[name]
        fields = short_fields(visit, kind, self.kind)
        items = reply.body["items"]
        address = f"{self.kind.name}_id={number}"
        able = kind.resource.get(f"{self.kind.name}_id")
        makes = kind.creation is not None and kind.creation.need.is_met(visit.principal)
        makes = makes and kind.creation is not None and able is not None and able.creates.value != "never"
        return {
            "name": name,
            "title": kind_words(kind)[0],
            "new": kind_words(kind)[2] if makes else "",
            "make": f"{kind.path}/new?{address}",
            "href": f"{kind.path}?{address}" if able is not None and able.filters else "",
            "heads": [label(each.name) for each in fields],
            "rows": [
                {
                    "href": f"{kind.path}/{each['id']}",
                    "cells": [cell(visit, kind, field, each) for field in fields if field.name in each],
                }
                for each in items
            ],
            "total": reply.body["page"].get("total"),
        }

    def _audit(self, visit: Visit, reply: Reply) -> Mapping[str, Any]:
        """What was done with it."""
        kind = self.kinds["log"]
        names = ("at", "action", "outcome", "administrator_name", "client_address")
        fields = [field for name in names if (field := kind.resource.get(name)) is not None]
        rows = [[cell(visit, kind, field, each) for field in fields] for each in reply.body["items"]]
        return {"heads": [label(each.name) for each in fields], "rows": rows}


def short_fields(visit: Visit, kind: ObjectKind, within: ObjectKind) -> list[Field]:
    """Columns of a short list: what one knows them by, their state, and little more; not whose they are."""
    wanted = (kind.known_by, "state", "user_state", "version", "user_name", "osf_name", "host_name", "blocked")
    seen = {each.name: each for each in kind.visible(visit.principal)}
    return [seen[name] for name in dict.fromkeys(wanted) if name in seen and name != f"{within.name}_name"]


def groups_of(visit: Visit, kind: ObjectKind, item: Mapping[str, Any]) -> Sequence[tuple[str, Sequence[Row]]]:
    """Its fields. What names something stands for its number; what is empty is shown, for that is said too."""
    found: dict[str, list[Row]] = {GENERAL: []}
    for field in kind.resource.fields:
        if field.name not in item or (name_of(field.name) and name_of(field.name) in item):
            continue
        made = Row(label(field.name), field.text, cell(visit, kind, field, item))
        found.setdefault(group_of(field.name), []).append(made)
    if kind.known_by == "id" or not any(row.cell.name == "id" for row in found[GENERAL]):
        found[GENERAL].insert(0, Row(label("id"), "", Cell("id", "text", str(item["id"]))))
    order = [GENERAL, *(title for title, _ in GROUPS)]
    return [(title, found[title]) for title in order if found.get(title)]


def text_cell(name: str, value: Any) -> Cell:
    return Cell(f"property:{name}", "text", value if isinstance(value, str) else compact(value))


def group_of(name: str) -> str:
    for title, begins in GROUPS:
        if any(name == each or (each.endswith("_") and name.startswith(each)) for each in begins):
            return title
    return GENERAL


def events_of(visit: Visit, found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What happened to it, each with what it changed."""
    return [
        {
            "at": each["at"],
            "when": visit.viewer.when(each["at"]),
            "kind": str(each["kind"]),
            "cause": str(each.get("cause") or ""),
            "changes": changes_of(each.get("before") or {}, each.get("after") or {}),
        }
        for each in found["items"]
    ]


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """Columns that differ, with what they were and became."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [(name, short(before.get(name)), short(after.get(name))) for name in names]


def short(value: Any) -> str:
    if value is None:
        return "—"
    return value if isinstance(value, str) else compact(value)


def states_of(visit: Visit, kind: ObjectKind) -> Mapping[str, str]:
    """What the script writes, where a state changes."""
    words = {"true": visit.viewer.text(N_("Yes")), "false": visit.viewer.text(N_("No"))}
    for field in kind.resource.fields:
        if field.choices and type_of(field) in ("state", "text"):
            row = {field.name: ""}
            for choice in field.choices:
                row[field.name] = choice
                words[choice] = cell(visit, kind, field, row).text
    return words
