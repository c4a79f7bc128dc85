# -*- test-case-name: tests.cli.test_apply -*-
"""A farm as a document: what L{qvd.declarative.wanted} reads again to the same objects."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from qvd.declarative.kinds import BY_NAME, COMMON, KINDS, OVER_ALL, Key
from qvd.declarative.reading import Farm
from qvd.declarative.wanted import FORMAT, STATES

EMPTY: tuple[Any, ...] = ("", None, [], {})


def document_of(farm: Farm, kinds: Collection[str] = ()) -> dict[str, Any]:
    """What is empty is left out.

    @param kinds: only these, with what they belong to; empty: all.
    """
    found: dict[str, Any] = {"qvd": FORMAT}
    if not kinds and farm.configuration.values:
        found["configuration"] = dict(sorted(farm.configuration.values.items()))
    at: dict[tuple[str, Key], dict[str, Any]] = {}
    for kind in KINDS:
        for item in sorted((each for each in farm.items.values() if each.kind == kind.name), key=lambda each: each.key):
            if kind.parent:
                above: dict[str, Any] | None = at.get((kind.parent, item.key[:-1]))
                if above is None and kind.parent == "tenant" and item.key[0] == COMMON and item.managed:
                    above = at["tenant", (COMMON,)] = found.setdefault("tenants", {}).setdefault(COMMON, {})
            else:
                above = found
            if above is None or (kind.name == "role" and not item.managed):
                continue
            if kinds and not wanted_of(kind.name, kinds):
                continue
            own = written(item.values, item.kind) if item.managed and (not kinds or kind.name in kinds) else {}
            above.setdefault(kind.section, {})[item.name] = own
            at[kind.name, item.key] = own
    return pruned(found)


def wanted_of(kind: str, kinds: Collection[str]) -> bool:
    """Whether it is one of these, or one of these belongs to it."""
    return kind in kinds or any(kind in parents(each) for each in kinds if each in BY_NAME)


def parents(kind: str) -> list[str]:
    above = BY_NAME[kind].parent
    return [above, *parents(above)] if above else []


def written(values: Any, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(values):
        value = values[name]
        if name == "state" and kind == "di" and value not in STATES:
            continue
        if name in ("acls", "quotas"):
            value = {key: inner for key, inner in value.items() if inner not in EMPTY}
        if value not in EMPTY:
            found[name] = value
    return found


def pruned(found: dict[str, Any]) -> dict[str, Any]:
    """Without the tenant of the administrators over all tenants where nothing is in it."""
    tenants = found.get("tenants", {})
    if OVER_ALL in tenants and not tenants[OVER_ALL]:
        del tenants[OVER_ALL]
    return found
