# -*- test-case-name: tests.cli.test_filters -*-
"""A filter that somebody typed, as the API wants it: the body of a search, or a query string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from qvd.cli.description import Collection, Shape
from qvd.cli.exits import CommandError, usage
from qvd.cli.grammar import NULL, And, Condition, Filter, FilterError, Not, Or, parse
from qvd.cli.moments import EXAMPLES, here, moment, written

OPERATORS = {"=": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge", "~": "like", "~*": "ilike"}
PROPERTY = "property."


@frozen
class Fields:
    """What conditions may be about.

    @ivar known: fields by name.
    @ivar known_by: the one that a bare word is compared with; empty: there is none.
    """

    known: Mapping[str, Shape]
    known_by: str
    now: datetime

    @classmethod
    def of(cls, collection: Collection) -> Fields:
        return cls(collection.fields, collection.known_by, here())

    def name(self, condition: Condition) -> str:
        """The field that is meant: C{user} is the user's name.

        @raise FilterError: there is none.
        """
        key = condition.key or self.known_by
        if not key:
            raise FilterError("these objects have no names: write a field and an operator", condition.position)
        for each in (key, key.replace("-", "_"), f"{key}_name", f"{key}_id"):
            if each in self.known:
                return each
        if key.startswith(PROPERTY):
            return key
        near = get_close_matches(key, self.known, 1)
        meant = f": {near[0]}?" if near else f"; there are {', '.join(sorted(self.known))}"
        raise FilterError(f"there is no field {key!r}{meant}", condition.position)

    def value(self, name: str, text: str, position: int) -> str:
        """@raise FilterError: it is no moment where one is wanted. All else the API checks."""
        shape = self.known.get(name)
        if shape is None or shape.kind != "time":
            return text
        found = moment(text, self.now)
        if found is None:
            raise FilterError(f"{name} is compared with a moment ({EXAMPLES}), not {text!r}", position)
        return written(found)


def leaf(condition: Condition, fields: Fields) -> dict[str, Any]:
    """One condition."""
    name = fields.name(condition)
    values = [fields.value(name, each, condition.position) for each in condition.values]
    differs = condition.operator == "!="
    match condition.form:
        case "null":
            return {"field": name, "op": NULL, "value": not differs}
        case "list":
            return {"field": name, "op": "nin" if differs else "in", "value": values}
        case "range":
            made: dict[str, Any] = {"field": name, "op": "between", "value": values}
            return {"not": made} if differs else made
        case _:
            value = pattern(values[0]) if condition.operator in ("~", "~*") else values[0]
            return {"field": name, "op": OPERATORS[condition.operator], "value": value}


def pattern(text: str) -> str:
    """A pattern has C{%} or C{_}; a text without them is looked for anywhere."""
    return text if "%" in text or "_" in text else f"%{text}%"


def tree(node: Filter, fields: Fields) -> dict[str, Any]:
    """What the body of a search takes."""
    match node:
        case And(parts):
            return {"and": [tree(part, fields) for part in parts]}
        case Or(parts):
            return {"or": [tree(part, fields) for part in parts]}
        case Not(part):
            return {"not": tree(part, fields)}
        case Condition():
            return leaf(node, fields)


def pairs(node: Filter, fields: Fields) -> list[tuple[str, str]]:
    """What a query string takes: conditions that all hold.

    @raise FilterError: there is more to it.
    """
    if isinstance(node, And):
        return [pair for part in node.parts for pair in pairs(part, fields)]
    made = leaf(node, fields) if isinstance(node, Condition) else {}
    if "field" not in made:
        position = next(positions(node), 0)
        raise FilterError("here conditions can only be joined with ','", position)
    value = made["value"]
    text = ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, list) and any("," in each for each in value):
        raise FilterError("here values of a list can hold no ','", next(positions(node), 0))
    return [(f"{made['field']}[{made['op']}]", text)]


def positions(node: Filter) -> Any:
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from positions(part)
        case Not(part):
            yield from positions(part)
        case Condition():
            yield node.position


def search_filter(text: str, collection: Collection) -> dict[str, Any]:
    """@raise CommandError: it cannot be understood; with the place where it goes wrong."""
    found: dict[str, Any] = explained(text, lambda: tree(parse(text), Fields.of(collection)))
    return found


def query_filter(text: str, known: Mapping[str, Shape], known_by: str) -> Mapping[str, Sequence[str]]:
    """The same for a query string."""
    found: dict[str, list[str]] = {}
    for name, value in explained(text, lambda: pairs(parse(text), Fields(known, known_by, here()))):
        found.setdefault(name, []).append(value)
    return found


def explained(text: str, read: Any) -> Any:
    try:
        return read()
    except FilterError as error:
        raise pointed(text, error) from None


def pointed(text: str, error: FilterError) -> CommandError:
    """With a mark below the place."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    said = f"{error.text[:1].upper()}{error.text[1:]}"
    return usage(f"{said}, at character {error.position + 1} of the filter\n  {shown}\n  {' ' * error.position}^")
