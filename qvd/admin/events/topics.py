# -*- test-case-name: tests.admin.test_events -*-
"""
What may be watched, and how each delivery is read: with the watcher's own scope, filter and fields, once in a turn for
all who have the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl

from attrs import field, frozen

from qvd.admin.call import Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Need
from qvd.admin.events.changes import Happening, Turn
from qvd.admin.events.settings import settings
from qvd.admin.events.stream import frame
from qvd.admin.problems import Problem, not_found
from qvd.admin.queries import Search, Wanted, condition, names, wanted_of
from qvd.admin.schema import LARGEST
from qvd.interfaces.administration import IRecords, Query
from qvd.model.declared import COMMON, Kind, Principal
from qvd.model.filters import All, Comparison, Operator

MOST_TOPICS = 20
PAGE = 500
MOST_KNOWN = 10_000
WATCHED = frozenset(
    {"tenant", "administrator", "role", "user", "osf", "di", "host", "vm", "session", "job", "property", "log"}
)
"""Kinds whose changes are written down (C{outbox_attach}), and whose objects are read as all declared ones are."""
STATISTICS: Mapping[str, tuple[str, ...]] = {
    "user": ("user.stats.summary", "user.stats.blocked", "user.stats.connected-users"),
    "vm": ("vm.stats.summary", "vm.stats.blocked", "vm.stats.running-vms", "vm.stats.close-to-expire"),
    "host": (
        "host.stats.summary",
        "host.stats.blocked",
        "host.stats.running-hosts",
        "host.stats.top-hosts-most-vms",
    ),
    "osf": ("osf.stats.summary",),
    "di": ("di.stats.summary", "di.stats.blocked"),
}
"""Kinds that are counted, and who sees the counts."""
ONE = re.compile(r"([a-z_-]+):([0-9]{1,10})")
Frames = Sequence[tuple[int, bytes]]
"""Events, each with the number of its change."""


class Topic(Protocol):
    """Something that is watched. Equal ones, of several connections, are read once."""

    @property
    def text(self) -> str:
        """As it was asked for."""

    async def frames(self, turn: Turn, records: IRecords) -> Frames:
        """What there is to tell of a turn."""


@frozen
class Bell:
    """Says that something is to be read again, and nothing else.

    @ivar kinds: kinds whose changes ring it, each with the tenants whose; L{None}: all.
    @ivar object_id: only that object; empty: all.
    """

    text: str
    kinds: tuple[tuple[str, frozenset[int] | None], ...]
    object_id: str = ""

    async def frames(self, turn: Turn, records: IRecords) -> Frames:
        newest = 0
        for kind, tenants in self.kinds:
            found = turn.of(kind, tenants)
            if found is None:
                return [(0, frame("changed", {"topic": self.text}))]
            newest = max([newest, *(each.seq for key, each in found.items() if self.object_id in ("", key))])
        return [(newest, frame("changed", {"topic": self.text}))] if newest else []


@frozen
class Objects:
    """Objects of a collection, as some principals see them.

    @ivar seen: names of the fields that are shown: with scope and permissions, what tells this topic from one of the
        same text.
    @ivar object_id: only that one; L{None}: all that the filter is about.
    @ivar only_of: the administrator to whose objects the collection narrows it; L{None}: it does not.
    """

    text: str
    seen: tuple[str, ...]
    tenant_id: int | None
    superadmin: bool
    multitenant: bool
    acls: frozenset[str]
    object_id: int | None = None
    only_of: int | None = None
    collection: Collection = field(kw_only=True, eq=False)
    principal: Principal = field(kw_only=True, eq=False)
    wanted: Wanted = field(kw_only=True, eq=False)
    _known: set[Any] = field(factory=set, init=False, eq=False)

    @property
    def tenants(self) -> frozenset[int] | None:
        """Whose objects they may be."""
        resource = self.collection.resource
        if self.tenant_id is None or not resource.tenant:
            return None
        return frozenset({self.tenant_id, COMMON} if resource.shared else {self.tenant_id})

    async def frames(self, turn: Turn, records: IRecords) -> Frames:
        found = turn.of(self.collection.resource.name, self.tenants)
        if found is None:
            return [(0, frame("resync", {"topic": self.text, "reason": "many changes"}))]
        if self.object_id is not None:
            key = str(self.object_id)
            found = {key: found[key]} if key in found else {}
        if not found:
            return []
        return await self._read(found, records)

    async def _read(self, found: Mapping[str, Happening], records: IRecords) -> Frames:
        whole = self._id_kind is Kind.INTEGER
        ids: dict[Any, Happening] = {int(key) if whole else key: each for key, each in found.items()}
        rows: dict[Any, Mapping[str, Any]] = {}
        asked = [key for key, each in ids.items() if each.op != "removed"]
        for begin in range(0, len(asked), PAGE):
            rows |= await self._rows(asked[begin : begin + PAGE], records)
        kind, frames = self.collection.resource.name, []
        for key, each in ids.items():
            told = {"topic": self.text, "kind": kind, "id": key}
            if key in rows:
                item = self.collection.document(self.principal, rows[key], self.wanted)
                frames.append((each.seq, frame(each.op, told | {"item": item})))
                self._know(key)
            elif self.only_of is None or key in self._known:
                # It is gone, or no longer what the topic is about.
                frames.append((each.seq, frame("removed", told)))
        return frames

    def _know(self, key: Any) -> None:
        """Where others in the scope have objects that are not seen here, only known ones are told to be gone."""
        if self.only_of is not None and len(self._known) < MOST_KNOWN:
            self._known.add(key)

    async def _rows(self, ids: Sequence[Any], records: IRecords) -> dict[Any, Mapping[str, Any]]:
        resource = self.collection.resource
        key = resource.get("id")
        assert key is not None
        among = Comparison(key, Operator.IN, tuple(ids))
        parts = (among, self.wanted.query.where, self.collection.only(self.principal))
        where = All(tuple(part for part in parts if part is not None))
        query = Query(where=where, limit=len(ids))
        rows = await records.page(resource, self.wanted.fields, self.principal.scope, query)
        return {row["id"]: row for row in rows.items}

    @property
    def _id_kind(self) -> Kind:
        key = self.collection.resource.get("id")
        return key.kind if key is not None else Kind.INTEGER


def topics_of(call: Call, peers: Mapping[str, Collection]) -> Sequence[Topic]:
    """What a request asks to watch.

    @param peers: all collections by name.
    @raise Problem: there is no such topic, or it is not the caller's to watch.
    """
    texts = [each for value in call.query.get("topics", ()) for each in divided(value, peers)]
    if not texts or len(texts) > MOST_TOPICS:
        raise Problem("malformed-request", f"topics names from one to {MOST_TOPICS} topics")
    return [topic_of(call, text, peers) for text in dict.fromkeys(texts)]


def divided(value: str, peers: Mapping[str, Collection]) -> list[str]:
    """Topics that stand in one text, with commas. A comma within a filter is not followed by the name of a topic."""
    known = {"me", "stats", "config", *peers, *watched(peers)}
    found: list[str] = []
    for part in value.split(","):
        begins = re.split(r"[:?]", part.strip(), maxsplit=1)[0] in known
        if begins or not found or "?" not in found[-1]:
            found.append(part.strip())
        else:
            found[-1] += f",{part}"
    return [each for each in found if each]


def topic_of(call: Call, text: str, peers: Mapping[str, Collection]) -> Topic:
    principal = call.principal
    if text == "me":
        own = frozenset({principal.tenant_id})
        return Bell(text, (("administrator", own),), str(principal.administrator_id))
    if text == "config":
        return settings(principal, call.services.database)
    if text == "stats":
        counted = None if principal.superadmin else frozenset({principal.tenant_id, COMMON})
        # Nodes belong to no tenant, and whoever may see how many there are sees all of them.
        kinds = tuple(
            (kind, None if kind == "host" else counted) for kind, acls in STATISTICS.items() if principal.holds(*acls)
        )
        if not kinds:
            raise Problem("forbidden", "You need a permission to see statistics", acl="*.stats.*")
        return Bell(text, kinds)
    name, _, filters = text.partition("?")
    if one := ONE.fullmatch(name):
        collection, object_id = watched(peers).get(one[1]), int(one[2])
        if object_id > LARGEST:
            raise not_found()
    else:
        collection, object_id = peers.get(name), None
    if collection is None or not may_be_watched(collection):
        raise Problem("malformed-request", f"There is no topic {name!r}")
    if collection.resource.superadmin_reads and principal.multitenant and not principal.superadmin:
        raise Problem("malformed-request", f"There is no topic {name!r}")
    return objects(principal, text, collection, object_id, filters)


def watched(peers: Mapping[str, Collection]) -> Mapping[str, Collection]:
    """Collections that may be watched, by the names of their kinds."""
    return {each.resource.name: each for each in peers.values() if may_be_watched(each)}


def may_be_watched(collection: Collection) -> bool:
    """One that everybody may read is narrowed to what each of them sees, or nobody may watch it."""
    narrowed = type(collection).only is not Collection.only
    return collection.resource.name in WATCHED and (bool(collection.resource.read) or narrowed)


def objects(principal: Principal, text: str, collection: Collection, object_id: int | None, filters: str) -> Objects:
    """@raise Problem: the collection, a field or a filter is not the caller's to read."""
    collection = collection.view(principal)
    resource = collection.resource
    if not Need(resource.read, superadmin=resource.superadmin_reads).is_met(principal):
        raise Problem(
            "forbidden", f"You need the permission {' or '.join(resource.read)}", acl=", ".join(resource.read)
        )
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(filters, keep_blank_values=True, max_num_fields=100):
        given.setdefault(name, []).append(value)
    shown = names(",".join(given.pop("fields", []))) or list(collection.brief(principal))
    conditions = [condition(resource, principal, name, values) for name, values in given.items()]
    where = All(tuple(conditions)) if conditions else None
    wanted = collection.completed(wanted_of(resource, principal, Search(fields=shown), where))
    return Objects(
        text,
        tuple(each.name for each in wanted.shown),
        principal.scope.tenant_id,
        principal.superadmin,
        principal.multitenant,
        principal.acls,
        object_id,
        None if collection.only(principal) is None else principal.administrator_id,
        collection=collection,
        principal=principal,
        wanted=wanted,
    )
