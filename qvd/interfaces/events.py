"""Port: the changes of objects, in an order in which none is missed."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import Interface


@frozen(order=True)
class Position:
    """A point between changes: all before it are known, and none will come to be before it.

    @ivar xid: the oldest transaction that still ran.
    @ivar at: seconds of the database's clock.
    """

    xid: int
    at: int


@frozen
class Change:
    """What became of an object.

    @ivar kind: name of its resource.
    @ivar op: C{added}, C{changed} or C{removed}.
    @ivar tenant_id: L{None}: it belongs to no tenant.
    """

    xid: int
    seq: int
    kind: str
    object_id: str
    tenant_id: int | None
    op: str


class IOutbox(Interface):
    """The changes of the last 15 minutes. Either call may raise L{qvd.model.errors.DatabaseUnavailable}."""

    async def now() -> Position:
        """The newest position."""

    async def between(since: int, upto: int, after: Change | None, most: int) -> Sequence[Change]:
        """Changes from a position's C{xid} to another's, in the order of transaction and number; C{most} of them.

        @param after: the last one that is known already.
        """
