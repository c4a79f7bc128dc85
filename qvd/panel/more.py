# -*- test-case-name: tests.panel.test_details -*-
"""Pages of single objects besides the one that all kinds have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.panel.texts import N_
from qvd.panel.visit import Visit

MORE: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "images": (("life", N_("Tags and publication"), "/images/{id}"),),
    "roles": (("permissions", N_("Permissions"), "/roles/{id}/acls"),),
    "administrators": (("roles", N_("Roles and what they give"), "/administrators/{id}"),),
}
"""By collection: last part of the path, title, and what must be readable for the page to show something."""


def more_of(visit: Visit, collection: str, item: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Address and title of those that the caller has a use for."""
    return [
        (f"/panel/{collection}/{item['id']}/{name}", title)
        for name, title, needed in MORE.get(collection, ())
        if visit.may("GET", needed)
    ]
