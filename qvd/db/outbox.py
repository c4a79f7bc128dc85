# -*- test-case-name: tests.admin.test_events -*-
"""Changes of objects, as triggers write them down: C{schema/0018_outbox.sql}."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase
from qvd.interfaces.events import Change, IOutbox, Position


@implementer(IOutbox)
@frozen
class Outbox:
    """L{IOutbox} in PostgreSQL."""

    db: IDatabase

    async def now(self) -> Position:
        row = await self.db.fetch_one(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xid,"
            " extract(epoch FROM clock_timestamp())::bigint AS at"
        )
        assert row is not None
        return Position(row["xid"], row["at"])

    async def between(self, since: int, upto: int, after: Change | None, most: int) -> Sequence[Change]:
        xid, seq = (after.xid, after.seq) if after is not None else (since, 0)
        rows = await self.db.fetch(
            "SELECT xid::text::bigint AS xid, seq, kind, object_id, tenant_id, op FROM outbox"
            " WHERE (xid, seq) > (%s::text::xid8, %s) AND xid < %s::text::xid8 ORDER BY outbox.xid, seq LIMIT %s",
            (str(xid), seq, str(upto), most),
        )
        return [Change(**row) for row in rows]
