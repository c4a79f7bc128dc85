# -*- test-case-name: tests.panel.test_differences -*-
"""What became of an object, field by field, for people: of what the audit trail holds before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

LEVELS = 6


@frozen
class Line:
    """One field.

    @ivar field: its path, with dots.
    @ivar how: C{added}, C{removed}, C{changed} or C{same}.
    """

    field: str
    before: str
    after: str
    how: str


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Sequence[Line]:
    """All fields, those that are another first."""
    old, new = flat(before or {}), flat(after or {})
    lines = [line(name, name in old, name in new, old.get(name, ""), new.get(name, "")) for name in {**old, **new}]
    return sorted(lines, key=lambda each: each.how == "same")


def line(name: str, was: bool, is_now: bool, before: str, after: str) -> Line:
    if was and is_now:
        return Line(name, before, after, "same" if before == after else "changed")
    return Line(name, before, after, "added" if is_now else "removed")


def flat(values: Mapping[str, Any], above: str = "", levels: int = LEVELS) -> dict[str, str]:
    """Objects within objects, as fields with paths."""
    found: dict[str, str] = {}
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping) and value and levels:
            found |= flat(value, f"{path}.", levels - 1)
        else:
            found[path] = written(value)
    return found


def written(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def written_out(value: Any) -> str:
    """A document, for who wants all of it."""
    return json.dumps(value, indent=2, ensure_ascii=False)
