# -*- test-case-name: tests.panel.test_forms -*-
"""Values of custom properties. They are read at a place of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.panel.kinds import ObjectKind
from qvd.panel.visit import Visit


async def values_of(visit: Visit, kind: ObjectKind, number: str) -> Sequence[Mapping[str, Any]]:
    """All that are set for an object, with whose they are; none, where the caller may not see them."""
    template = f"/{kind.collection}/{{id}}/properties"
    if not visit.may("GET", template):
        return []
    reply = await visit.api("GET", template.replace("{id}", number))
    return [each for each in reply.body["items"] if each["is_set"]] if reply.ok else []


def own_of(kind: ObjectKind, values: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Those that are the object's own, by key. Secrets are none: nobody reads them."""
    return {
        each["key"]: each["value"]
        for each in values
        if each.get("origin", kind.name) == kind.name and each["type"] != "secret"
    }
