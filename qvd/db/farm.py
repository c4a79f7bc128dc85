# -*- test-case-name: tests.admin.test_metrics -*-
"""The farm, counted for those who watch it."""

from __future__ import annotations

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.farm import FarmNumbers, IFarm, NodeNumbers, VMStep

MOST_STEPS = 10000
"""That are read at a time; those that are more come the next time."""
# Events become visible in another order than that of their ids: so long after, none is missed.
SETTLED = "interval '2 seconds'"
NODES = """
    SELECT h.name, r.state, r.blocked, extract(epoch FROM now() - r.ok_ts)::float AS lease_age,
        coalesce(s.count, 0) AS sessions
    FROM hosts h JOIN host_runtimes r ON r.host_id = h.id
    LEFT JOIN (SELECT host_id, count(*) FROM sessions WHERE ended_at IS NULL GROUP BY host_id) s ON s.host_id = h.id
    WHERE r.decommissioned_at IS NULL ORDER BY h.name"""
STATES = """
    SELECT vm_state, count(*) AS count,
        count(*) FILTER (WHERE host_id IS NULL AND desired_state = 'running'
            AND generation > acked_generation) AS unplaced,
        count(*) FILTER (WHERE vm_state = 'starting' AND phase IN ('queued', 'queued to boot')) AS queued
    FROM vm_runtimes GROUP BY vm_state"""
STEPS = f"""
    SELECT id, vm_id, kind, extract(epoch FROM at)::float AS at FROM events
    WHERE id > %s AND at < now() - {SETTLED} AND vm_id IS NOT NULL AND kind LIKE 'vm.%%'
    ORDER BY id LIMIT {MOST_STEPS}"""
BEGIN = "SELECT coalesce(max(id), 0) AS last FROM events"


@implementer(IFarm)
@frozen
class Farm:
    """L{IFarm} over PostgreSQL."""

    db: IDatabase

    async def count(self, last: int | None) -> FarmNumbers:
        return await self.db.transact("count the farm", lambda tx: self._count(tx, last))

    async def _count(self, tx: ITransaction, last: int | None) -> FarmNumbers:
        if last is None:
            begin = await tx.fetch_one(BEGIN)
            last = 0 if begin is None else int(begin["last"])
        nodes = [NodeNumbers(**row) for row in await tx.fetch(NODES)]
        states = await tx.fetch(STATES)
        rows = await tx.fetch(STEPS, (last,))
        return FarmNumbers(
            nodes=nodes,
            vm_states={row["vm_state"]: row["count"] for row in states},
            unplaced=sum(row["unplaced"] for row in states),
            queued=sum(row["queued"] for row in states),
            steps=[VMStep(row["vm_id"], row["kind"], row["at"]) for row in rows],
            last=rows[-1]["id"] if rows else last,
        )
