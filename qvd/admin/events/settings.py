# -*- test-case-name: tests.admin.test_events_kinds -*-
"""Configuration, watched: values that are set, changed and reset, each with what counts then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from qvd.admin.events.changes import Happening, Turn, merged
from qvd.admin.events.stream import frame
from qvd.admin.problems import Problem
from qvd.admin.resources.config_documents import shown
from qvd.admin.resources.configuration import NEED, Configuration
from qvd.admin.settings import effective_values
from qvd.interfaces import IDatabase
from qvd.interfaces.administration import IRecords
from qvd.model.configuration import Key, Place
from qvd.model.declared import COMMON, Principal

TOPIC = "config"
MOST_PLACES = 50
"""Tenants and nodes whose values are read in a turn."""


@frozen
class Settings:
    """What the configuration says, as some principals see it. Two are equal where they see the same.

    @ivar tenant_id: whose values count for them; L{None}: they see where each is set.
    """

    tenant_id: int | None
    keys: tuple[Key, ...]
    hosts: bool
    reads: IDatabase = field(eq=False)

    @property
    def text(self) -> str:
        return TOPIC

    async def frames(self, turn: Turn, records: IRecords) -> Sequence[tuple[int, bytes]]:
        """What there is to tell of a turn. C{records} have no configuration."""
        found = turn.of("config", None if self.tenant_id is None else {self.tenant_id, COMMON})
        places = {} if found is None else self._places(found)
        if found is None or len(places) > MOST_PLACES:
            return [(0, frame("resync", {"topic": TOPIC, "reason": "many changes"}))]
        frames = []
        for place, happened in places.items():
            keys = [key for key in self.keys if key.name in happened]
            for each in await effective_values(self.reads, keys, place):
                what = happened[each.key.name]
                # A value that was reset and set again is one that has changed.
                op = "changed" if what.op == "removed" and not each.is_default else what.op
                told = {"topic": TOPIC, "kind": "config", "id": each.key.name, "item": shown(each)}
                frames.append((what.seq, frame(op, told | self._place(place))))
        return frames

    def _places(self, found: Mapping[str, Happening]) -> Mapping[Place, Mapping[str, Happening]]:
        """What happened where, by place and key. What the installation's value is matters to a tenant, too."""
        names, places = {key.name for key in self.keys}, dict[Place, dict[str, Happening]]()
        for object_id, each in found.items():
            tenant, host, name = object_id.split("/", 2)
            place = Place(int(tenant), int(host) or None)
            if name not in names or (place.host_id is not None and not self.hosts):
                continue
            if self.tenant_id not in (None, place.tenant_id):
                place, each = Place(self.tenant_id), Happening("changed", each.seq)
            happened = places.setdefault(place, {})
            happened[name] = merged(happened.get(name), each)
        return places

    def _place(self, place: Place) -> dict[str, Any]:
        """Where it is set, for who sees more than one place."""
        told = {"host_id": place.host_id} if self.hosts else {}
        return told | ({"tenant_id": place.tenant_id} if self.tenant_id is None else {})


def settings(principal: Principal, reads: IDatabase) -> Settings:
    """@raise Problem: the configuration is not the caller's to read."""
    if not NEED.is_met(principal):
        raise Problem("forbidden", f"You need the permission {NEED.any_of[0]}", acl=NEED.any_of[0])
    whole = principal.superadmin or not principal.multitenant
    tenant_id = None if principal.superadmin else principal.tenant_id if principal.multitenant else COMMON
    return Settings(tenant_id, tuple(Configuration({}).seen_by(principal)), whole, reads)
