# -*- test-case-name: tests.unit.test_admin_events_changes -*-
"""The changes of one turn: several of one object become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

from qvd.interfaces.events import Change

MOST = 1000
"""Objects of one kind and tenant in a turn; where more have changed, who watches reads all of them anew."""


@frozen
class Happening:
    """What became of an object in a turn.

    @ivar seq: number of the last change.
    """

    op: str
    seq: int


@define
class Turn:
    """Changes by kind and tenant, so that each watcher looks at those of its own scope alone.

    @ivar overflown: kinds and tenants with more than can be told one by one.
    """

    found: dict[tuple[str, int | None], dict[str, Happening]] = field(factory=dict)
    overflown: set[tuple[str, int | None]] = field(factory=set)

    def add(self, change: Change) -> None:
        """@param change: in any order."""
        place = (change.kind, change.tenant_id)
        if place in self.overflown:
            return
        objects = self.found.setdefault(place, {})
        before = objects.get(change.object_id)
        objects[change.object_id] = merged(before, change)
        if len(objects) > MOST:
            self.overflown.add(place)
            del self.found[place]

    def of(self, kind: str, tenants: Iterable[int | None] | None) -> Mapping[str, Happening] | None:
        """Objects of a kind that changed; L{None}: too many.

        @param tenants: whose; L{None}: of all, and of none.
        """
        allowed = None if tenants is None else frozenset(tenants)
        places = [place for place in self.found if place[0] == kind and (allowed is None or place[1] in allowed)]
        if any(place[0] == kind and (allowed is None or place[1] in allowed) for place in self.overflown):
            return None
        found: dict[str, Happening] = {}
        for place in places:
            for key, each in self.found[place].items():
                # A change that not all may know of is told apart from the object's others.
                found[key] = merged(found.get(key), each)
        return found if len(found) <= MOST else None


def merged(before: Happening | None, change: Change | Happening) -> Happening:
    """Two changes of one object as one: what is new stays so, what is gone stays gone."""
    if before is None:
        return Happening(change.op, change.seq)
    seq = max(before.seq, change.seq)
    ops = {before.op, change.op}
    return Happening("removed" if "removed" in ops else "added" if "added" in ops else "changed", seq)
