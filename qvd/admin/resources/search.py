# -*- test-case-name: tests.admin.test_search -*-
"""One field to find anything by its name or number, in all lists that the caller may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import LOGGED_IN, Endpoint, Parameter
from qvd.admin.problems import Problem
from qvd.admin.queries import sees, whole
from qvd.admin.resources.views import reads
from qvd.admin.schema import LARGEST
from qvd.interfaces.administration import Query
from qvd.model.filters import All, AnyOf, Comparison, Filter, Operator

MOST, DEFAULT, LONGEST = 50, 10, 200
"""Objects of each kind, at most and if nothing is said; characters of what is looked for."""
EXCEPT = ("log",)
"""Their rows are no objects."""


class Hit(msgspec.Struct, forbid_unknown_fields=True):
    """An object. C{collection}: where in the API it is."""

    kind: str
    collection: str
    id: int
    name: str


class Hits(msgspec.Struct, forbid_unknown_fields=True):
    """What was found. C{more}: kinds of which there is more than is shown."""

    items: list[Hit]
    more: list[str]


class Find:
    """The operation."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        """@param peers: all collections."""
        self.peers = peers

    def endpoints(self) -> Sequence[Endpoint]:
        """The operation."""
        text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": LONGEST}
        return [
            Endpoint(
                method="GET",
                path="/search",
                action="search",
                need=LOGGED_IN,
                handler=self.find,
                summary="Search: objects of all kinds whose name holds something, or whose number it is",
                answers={200: Hits},
                parameters=(
                    Parameter("q", text, "What to look for; upper and lower case are the same"),
                    Parameter("kinds", {"type": "string"}, "Kinds of objects, with commas; otherwise all"),
                    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, "Objects of each kind"),
                ),
                tag="search",
            )
        ]

    async def find(self, call: Call) -> Answer:
        text, limit = call.one("q").strip(), whole(call, "limit") or DEFAULT
        if not text or len(text) > LONGEST:
            raise Problem("malformed-request", f"Say what to look for: q, {LONGEST} characters at most")
        if limit > MOST:
            raise Problem("malformed-request", f"limit is a number from 1 to {MOST}")
        kinds = {kind.strip() for kind in call.one("kinds").split(",")} - {""}
        items, more = [], []
        for peer in self.peers.values():
            resource = peer.resource
            field = resource.get(resource.known_by)
            if resource.name in EXCEPT or (kinds and resource.name not in kinds):
                continue
            if field is None or not reads(call.principal, resource) or not sees(call.principal, field):
                continue
            holds: list[Filter] = [Comparison(field, Operator.ILIKE, f"%{escaped(text)}%")]
            number = resource.get("id")
            if number is not None and text.isascii() and text.isdigit() and int(text) <= LARGEST:
                holds.append(Comparison(number, Operator.EQ, int(text)))
            mine, where = peer.only(call.principal), AnyOf(tuple(holds))
            query = Query(where=where if mine is None else All((mine, where)), order=((field, False),), limit=limit)
            rows = await call.services.records.page(resource, (field,), call.scope, query)
            items += [Hit(resource.name, resource.collection, row["id"], str(row[field.name])) for row in rows.items]
            if rows.has_more:
                more.append(resource.name)
        return Answer(200, Hits(items, more))


def escaped(text: str) -> str:
    """As part of a pattern, in which it means itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
