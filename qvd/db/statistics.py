# -*- test-case-name: tests.admin.test_stats -*-
"""What the dashboard counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, Row
from qvd.interfaces.administration import IStatistics
from qvd.model.declared import COMMON, Scope

MINE = "(%(tenant)s::integer IS NULL OR {0}.tenant_id = %(tenant)s)"
SHARED = f"(%(tenant)s::integer IS NULL OR {{0}}.tenant_id IN (%(tenant)s, {COMMON}))"
SOON = "r.vm_expiration_{0} BETWEEN now() AND now() + %(days)s * interval '1 day'"
DUE = f"({SOON.format('hard')} OR {SOON.format('soft')})"
# By state, of which NULL is that of what has none; the sums are made here, from few rows.
COUNTS = {
    "users": f"SELECT NULL AS state, u.blocked, count(*) FROM users u WHERE {MINE.format('u')} GROUP BY u.blocked",
    "vms": (
        f"SELECT r.vm_state AS state, r.blocked, count(*) FROM vm_runtimes r WHERE {MINE.format('r')}"
        " GROUP BY r.vm_state, r.blocked"
    ),
    "hosts": "SELECT r.state, r.blocked, count(*) FROM host_runtimes r GROUP BY r.state, r.blocked",
    "osfs": f"SELECT NULL AS state, false AS blocked, count(*) FROM osfs o WHERE {SHARED.format('o')}",
    "images": (
        f"SELECT d.state, d.blocked, count(*) FROM dis d WHERE {SHARED.format('d')} GROUP BY d.state, d.blocked"
    ),
}
MORE = {
    "users": (
        "SELECT count(DISTINCT s.user_id) AS connected FROM sessions s"
        f" WHERE s.ended_at IS NULL AND s.state = 'connected' AND {MINE.format('s')}"
    ),
    "vms": (
        f"SELECT count(*) AS expiring FROM vm_runtimes r WHERE {DUE} AND {MINE.format('r')}"
        " AND (r.vm_expiration_soft IS NOT NULL OR r.vm_expiration_hard IS NOT NULL)"
    ),
}
EXPIRING = f"""
    SELECT v.id, v.name, u.login AS user_name, r.vm_expiration_soft AS soft, r.vm_expiration_hard AS hard
    FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id
    WHERE {DUE} AND {MINE.format("r")}
        AND (r.vm_expiration_soft IS NOT NULL OR r.vm_expiration_hard IS NOT NULL)
    ORDER BY least(CASE WHEN r.vm_expiration_soft >= now() THEN r.vm_expiration_soft END,
        CASE WHEN r.vm_expiration_hard >= now() THEN r.vm_expiration_hard END), v.id LIMIT %(most)s
"""
TOP_HOSTS = f"""
    SELECT h.id, h.name, count(*) AS number_of_vms, count(*) FILTER (WHERE r.vm_state = 'running') AS running_vms
    FROM vm_runtimes r JOIN hosts h ON h.id = r.host_id WHERE {MINE.format("r")}
    GROUP BY h.id ORDER BY count(*) DESC, h.id LIMIT %(most)s
"""


@implementer(IStatistics)
@frozen
class Statistics:
    """L{IStatistics} over PostgreSQL."""

    db: IDatabase

    async def counts(self, scope: Scope, parts: Collection[str], days: int) -> Mapping[str, Mapping[str, Any]]:
        found = {}
        for part in parts:
            parameters = {"tenant": scope.tenant_id, "days": days}
            found[part] = sums(await self.db.fetch(COUNTS[part], parameters))
            if part in MORE:
                found[part] |= await self.db.fetch_one(MORE[part], parameters) or {}
        return found

    async def expiring(self, scope: Scope, days: int, most: int) -> Sequence[Row]:
        return await self.db.fetch(EXPIRING, {"tenant": scope.tenant_id, "days": days, "most": most})

    async def top_hosts(self, scope: Scope, most: int) -> Sequence[Row]:
        return await self.db.fetch(TOP_HOSTS, {"tenant": scope.tenant_id, "most": most})


def sums(rows: Sequence[Row]) -> dict[str, Any]:
    """Of rows by state and whether it is blocked."""
    by_state: dict[str, int] = {}
    for row in rows:
        if row["state"] is not None:
            by_state[row["state"]] = by_state.get(row["state"], 0) + row["count"]
    return {
        "total": sum(row["count"] for row in rows),
        "blocked": sum(row["count"] for row in rows if row["blocked"]),
        "by_state": by_state,
    }
