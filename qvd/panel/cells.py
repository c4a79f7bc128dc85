# -*- test-case-name: tests.panel.test_lists -*-
"""Values of objects as people read them: in a table, or on the page of an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from attrs import frozen

from qvd.model.declared import Field, Kind
from qvd.panel.kinds import LINKS, ObjectKind, number_of
from qvd.panel.texts import N_
from qvd.panel.visit import Visit
from qvd.panel.words import word

BYTES = frozenset({"memory", "free_memory", "available_memory", "user_storage_size", "size"})
"""Fields whose numbers are bytes."""
STATES = frozenset(
    {"state", "user_state", "desired_state", "outcome", "drain", "blocked", "decommissioned", "order_pending"}
)
"""Fields whose values are shown with a sign and a colour, beside the word."""
TONES: Mapping[str, Sequence[str]] = {
    "good": ("running", "connected", "done", "published", "ready", "succeeded"),
    "busy": ("starting", "stopping", "connecting", "queued", "generating", "uploading", "verifying", "stop", "wait"),
    "bad": ("fail", "failed", "lost", "denied", "zombie"),
    "warn": ("blocked", "debugging", "cancelled", "retired", "partial"),
}
"""By the values; all others are calm."""
TONE_OF = {value: tone for tone, values in TONES.items() for value in values}
YES, NO, NOTHING = N_("Yes"), N_("No"), N_("nothing")


@frozen
class Cell:
    """A value.

    @ivar type: how it is written: C{text}, C{state}, C{time}, C{number}, C{size}, C{flag}, C{list} or C{object}.
    @ivar text: for people.
    @ivar href: where what it names is shown.
    @ivar moment: a time, for programs.
    """

    name: str
    type: str
    text: str
    href: str = ""
    tone: str = ""
    moment: str = ""
    items: Sequence[str] = ()


def type_of(field: Field) -> str:
    """How a field's values are written."""
    if field.name in STATES:
        return "state"
    match field.kind:
        case Kind.TIME:
            return "time"
        case Kind.BOOLEAN:
            return "flag"
        case Kind.INTEGER | Kind.NUMBER if field.name in BYTES:
            return "size"
        case Kind.INTEGER if field.name == "id" or field.name.endswith("_id"):
            return "text"
        case Kind.INTEGER | Kind.NUMBER:
            return "number"
        case Kind.LIST:
            return "list"
        case Kind.OBJECT:
            return "object"
        case _:
            return "text"


def cell(visit: Visit, kind: ObjectKind, field: Field, row: Mapping[str, Any]) -> Cell:
    """A field of an object."""
    value, written = row.get(field.name), type_of(field)
    href = link(visit, kind, field, row)
    viewer = visit.viewer
    if value is None or value == "":
        return Cell(field.name, written, "")
    match written:
        case "state":
            return state_cell(visit, field, value)
        case "time":
            return Cell(field.name, written, viewer.when(value), href, moment=str(value))
        case "flag":
            return Cell(field.name, written, viewer.text(YES if value else NO), href)
        case "size":
            return Cell(field.name, written, viewer.size(value), href)
        case "number":
            return Cell(field.name, written, viewer.number(value), href)
        case "list":
            items = [named(each) for each in value]
            return Cell(field.name, written, ", ".join(items), href, items=items)
        case "object":
            return Cell(field.name, written, pretty(value) if value else "", href)
        case _:
            text = viewer.text(word(field, value)) if value in field.choices else str(value)
            return Cell(field.name, written, text, href)


def state_cell(visit: Visit, field: Field, value: Any) -> Cell:
    """With a tone, which is never all that tells it from others."""
    if isinstance(value, bool):
        tone = {"blocked": "warn", "decommissioned": "warn"}.get(field.name, "busy") if value else "calm"
        return Cell(field.name, "state", visit.viewer.text(YES if value else NO), tone=tone)
    text = visit.viewer.text(word(field, str(value)))
    return Cell(field.name, "state", text, tone=TONE_OF.get(str(value), "calm"))


def link(visit: Visit, kind: ObjectKind, field: Field, row: Mapping[str, Any]) -> str:
    """The page of what a value names; empty: there is none, or it is not for the caller."""
    if field.name == kind.known_by and "id" in row:
        return f"{kind.path}/{row['id']}"
    if field.name == "object_name":
        return page_of(visit, LINKS.get(str(row.get("object_kind") or row.get("kind")), ""), row.get("object_id"))
    number, collection = number_of(field.name), ""
    if number:
        collection = LINKS.get(number.removesuffix("_id"), "")
    elif field.name.endswith("_id") or field.name.endswith("_id_in_use"):
        number, collection = field.name, LINKS.get(field.name.removesuffix("_in_use").removesuffix("_id"), "")
    elif field.name.startswith("di_version"):
        number, collection = field.name.replace("version", "id"), "images"
    return page_of(visit, collection, row.get(number))


def page_of(visit: Visit, collection: str, number: Any) -> str:
    if not collection or number is None or not visit.may("GET", f"/{collection}/{{id}}"):
        return ""
    return f"/panel/{collection}/{number}" if isinstance(number, int) and number > 0 else ""


def named(value: Any) -> str:
    """One of a list: what people know it by."""
    if isinstance(value, Mapping):
        value = value.get("name", value.get("tag", value))
    return value if isinstance(value, str) else compact(value)


def compact(value: Any) -> str:
    """A value that is no text, in one line."""
    return msgspec.json.encode(value).decode()


def pretty(value: Any) -> str:
    """The same in several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
