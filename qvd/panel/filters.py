# -*- test-case-name: tests.panel.test_filters -*-
"""
Conditions of a list, as the URL of its page has them: C{field[op]=value}, the same as in the API's. What a form of
the page sends is put into that form first, so that a list has one address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from attrs import frozen

from qvd.model.declared import Field, Kind
from qvd.model.filters import Operator
from qvd.panel.kinds import ObjectKind
from qvd.panel.texts import N_, Viewer
from qvd.panel.visit import Fields, Visit
from qvd.panel.words import label, word

RESERVED = ("sort", "limit", "cursor", "columns", "done", "saved")
"""Parameters of a list's page that are no conditions."""
ADDED = ("f", "o", "v")
"""Members of the form that adds any condition: field, operator, value."""
KEY = re.compile(r"([^\[\]]+)(?:\[([a-z]+)\])?")
OPERATORS: Mapping[str, str] = {
    "eq": N_("is"),
    "ne": N_("is not"),
    "lt": N_("is less than"),
    "le": N_("is at most"),
    "gt": N_("is more than"),
    "ge": N_("is at least"),
    "in": N_("is one of"),
    "nin": N_("is none of"),
    "between": N_("is between"),
    "like": N_("is like (upper and lower case differ)"),
    "ilike": N_("holds"),
    "prefix": N_("begins with"),
    "null": N_("is empty"),
}
LISTED = ("in", "nin", "between")
PATTERNS = ("like", "ilike")


@frozen
class Condition:
    """@ivar operator: empty: equal, or one of several with commas."""

    field: str
    operator: str
    value: str

    @property
    def key(self) -> str:
        return f"{self.field}[{self.operator}]" if self.operator else self.field

    @property
    def text(self) -> str:
        """What somebody typed for it."""
        if self.operator in PATTERNS and len(self.value) > 1 and self.value[0] == self.value[-1] == "%":
            return unescaped(self.value[1:-1])
        return self.value


def conditions_of(query: Fields) -> list[Condition]:
    """Those of an address."""
    found = []
    for key, value in query.but(*RESERVED, *ADDED):
        parts = KEY.fullmatch(key)
        if parts and value.strip():
            found.append(Condition(parts[1], parts[2] or "", value))
    return found


def as_query(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in conditions]


def tidied(kind: ObjectKind, query: Fields, zone: tzinfo) -> list[tuple[str, str]]:
    """What the address of a page should be, of what a form sent."""
    found: list[tuple[str, str]] = []
    for each in conditions_of(query):
        made = (each.key, written(kind, each, zone))
        if made not in found:
            found.append(made)
    name, operator, value = (query.one(each).strip() for each in ADDED)
    if name and (value or operator == "null"):
        plain = "" if operator in ("", "eq") else operator
        added = Condition(name, plain, value or "true")
        found.append((added.key, written(kind, added, zone)))
    columns = [part for value in query.all("columns") for part in value.split(",") if part]
    if columns:
        found.append(("columns", ",".join(dict.fromkeys(columns))))
    found += [(name, query.one(name)) for name in ("sort", "limit", "cursor", "done", "saved") if query.one(name)]
    return found


def written(kind: ObjectKind, condition: Condition, zone: tzinfo) -> str:
    """A condition's value as the API takes it."""
    field = kind.resource.get(condition.field)
    value = condition.value.strip()
    if condition.operator in PATTERNS and "%" not in value:
        return f"%{escaped(value)}%"
    if field is not None and field.kind is Kind.TIME and condition.operator not in ("null", *LISTED):
        return moment(value, zone)
    return value


def moment(text: str, zone: tzinfo) -> str:
    """A time of a form has no zone: it is meant in the viewer's."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if read.tzinfo is not None else read.replace(tzinfo=zone).isoformat()


def local(text: str, zone: tzinfo) -> str:
    """A time for a form."""
    try:
        return datetime.fromisoformat(text).astimezone(zone).strftime("%Y-%m-%dT%H:%M")
    except (ValueError, OverflowError):
        return ""


def escaped(text: str) -> str:
    """As part of a pattern, in which it means itself; a star is any text."""
    return text.replace("\\", "\\\\").replace("_", "\\_").replace("*", "%")


def unescaped(text: str) -> str:
    return text.replace("%", "*").replace("\\_", "_").replace("\\\\", "\\")


def tree_of(conditions: Sequence[Condition]) -> dict[str, Any]:
    """The same conditions for a call that takes a tree; empty: all objects."""
    parts = []
    for each in conditions:
        value: Any = each.value
        operator = each.operator or ("in" if "," in value else "eq")
        if operator in LISTED:
            value = value.split(",")
        parts.append({"field": each.field, "op": operator, "value": value})
    return {"and": parts} if parts else {}


@frozen
class Control:
    """One condition in the form.

    @ivar name: of the input: C{state}, C{name[ilike]}.
    @ivar type: of the input; C{select}: one of C{choices}, each with its text.
    """

    name: str
    label: str
    type: str
    value: str
    choices: Sequence[tuple[str, str]] = ()


def controls(visit: Visit, kind: ObjectKind, names: Sequence[str], conditions: Sequence[Condition]) -> list[Control]:
    """Inputs for the fields of these names, and for all that there are conditions on."""
    known = {each.name: each for each in kind.visible(visit.principal) if each.filters}
    wanted = list(dict.fromkeys([*names, *(each.field for each in conditions)]))
    found: list[Control] = []
    for name in wanted:
        field = known.get(name)
        if field is not None:
            found += controls_of(
                visit.viewer, field, {each.operator: each for each in conditions if each.field == name}
            )
    return found


def controls_of(viewer: Viewer, field: Field, given: Mapping[str, Condition]) -> list[Control]:
    """Inputs for a field."""
    text = viewer.text(label(field.name))

    def control(operator: str, type: str, said: str = text, choices: Sequence[tuple[str, str]] = ()) -> Control:
        known = given.get(operator)
        value = "" if known is None else local(known.value, viewer.zone) if field.kind is Kind.TIME else known.text
        name = f"{field.name}[{operator}]" if operator else field.name
        return Control(name, said, type, value, choices)

    if field.choices:
        choices = [(each, viewer.text(word(field, each))) for each in field.choices]
        return [control("", "select", choices=choices)]
    match field.kind:
        case Kind.BOOLEAN:
            return [control("", "select", choices=[("true", viewer.text(N_("Yes"))), ("false", viewer.text(N_("No")))])]
        case Kind.TIME:
            since, until = viewer.text(N_("from")), viewer.text(N_("until"))
            return [
                control("ge", "datetime-local", f"{text}, {since}"),
                control("le", "datetime-local", f"{text}, {until}"),
            ]
        case Kind.INTEGER | Kind.NUMBER:
            return [control("", "number")]
        case Kind.TEXT:
            return [control("ilike", "search")]
        case Kind.ADDRESS:
            return [control("", "text")]
        case _:
            return []


def chip(viewer: Viewer, kind: ObjectKind, condition: Condition) -> str:
    """A condition in words."""
    field = kind.resource.get(condition.field)
    operator = condition.operator or ("in" if "," in condition.value else "eq")
    said = viewer.text(OPERATORS.get(operator, operator))
    if operator == "null":
        said = viewer.text(OPERATORS["null"] if condition.value in ("true", "1") else N_("is not empty"))
        return f"{viewer.text(label(condition.field))} {said}"
    value = condition.text
    if field is not None and field.kind is Kind.TIME:
        value = viewer.when(condition.value)
    elif field is not None and field.choices:
        value = ", ".join(viewer.text(word(field, each)) for each in value.split(","))
    elif field is not None and field.kind is Kind.BOOLEAN:
        value = viewer.text(N_("Yes") if value in ("true", "1") else N_("No"))
    return f"{viewer.text(label(condition.field))} {said} {value}"


def operators() -> Sequence[tuple[str, str]]:
    """Those that the API knows, each with its text in English."""
    return [(each.value, OPERATORS.get(each.value, each.value)) for each in Operator]
