# -*- test-case-name: tests.admin.test_hosts -*-
"""What administrators do to nodes by their ids, and to all VMs of a node or a tenant."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen
from zope.interface import implementer

from qvd.db.drain import drain
from qvd.db.enrolment import NEW_TOKEN, SILENCE, new_token
from qvd.db.lost import take_from
from qvd.db.nodes import decommission
from qvd.db.vms import say_cause
from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.jobs import IHostOrders
from qvd.model.errors import Conflict
from qvd.model.ids import HostId
from qvd.model.secret import Secret

OF_HOST, OF_TENANT = "r.host_id = %(host)s", "r.tenant_id = %(tenant)s"
# An order without a node has nobody who could acknowledge its end: see L{qvd.db.vms.withdraw}.
STOP = """
    UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1,
        acked_generation = CASE WHEN host_id IS NULL THEN generation + 1 ELSE acked_generation END,
        phase = CASE WHEN host_id IS NULL THEN 'stopped' ELSE phase END
    WHERE vm_id = ANY(%s)
"""


@implementer(IHostOrders)
@frozen
class HostOrders:
    """L{IHostOrders} over PostgreSQL."""

    db: IDatabase

    async def apply_drain(self, host_id: int) -> int:
        return await self.db.transact("drain", lambda tx: drain(tx, HostId(host_id)))

    async def new_token(self, name: str | None, hours: float, cause: str, tx: ITransaction) -> Secret:
        token, parameters = new_token(name, hours, cause)
        await tx.execute(NEW_TOKEN, parameters)
        return token

    async def decommission(self, host_id: int, tx: ITransaction) -> None:
        await decommission(tx, HostId(host_id))

    async def declare_dead(self, host_id: int, tx: ITransaction) -> Mapping[str, int]:
        # In the order of all transactions: VMs, then nodes.
        await tx.fetch(
            "SELECT FROM vm_runtimes WHERE host_id = %(host)s OR session_id IN"
            " (SELECT id FROM sessions WHERE host_id = %(host)s AND ended_at IS NULL) ORDER BY vm_id FOR UPDATE",
            {"host": host_id},
        )
        row = await tx.fetch_one(
            "SELECT r.host_id, r.state, h.name, coalesce(r.lease_until + %s * interval '1 second' < clock_timestamp(),"
            " true) AS over FROM host_runtimes r JOIN hosts h ON h.id = r.host_id WHERE r.host_id = %s FOR UPDATE OF r",
            (SILENCE, host_id),
        )
        assert row is not None, "the caller holds its row"
        if not row["over"]:
            raise Conflict(
                f"The lease of {row['name']!r} is not over, so it may run VMs, and none may run twice: it stops them by"
                f" itself when it cannot renew; {SILENCE:.0f} s after the end of its lease it can be declared dead"
            )
        lost = await take_from(tx, row)
        return {"vms": lost.vms, "sessions": lost.sessions}

    async def order_stops(self, host_id: int | None, tenant_id: int | None, most: int, cause: str) -> int:
        of = OF_TENANT if host_id is None else OF_HOST

        async def work(tx: ITransaction) -> int:
            await say_cause(tx, cause)
            rows = await tx.fetch(
                f"SELECT r.vm_id FROM vm_runtimes r WHERE {of} AND r.desired_state = 'running'"
                " ORDER BY r.vm_id LIMIT %(most)s FOR UPDATE",
                {"host": host_id, "tenant": tenant_id, "most": most},
            )
            if rows:
                await tx.execute(STOP, ([row["vm_id"] for row in rows],))
            return len(rows)

        return await self.db.transact("order_stops", work)

    async def not_stopped(self, host_id: int | None, tenant_id: int | None) -> int:
        of = OF_TENANT if host_id is None else OF_HOST
        row = await self.db.fetch_one(
            f"SELECT count(*) FROM vm_runtimes r WHERE {of} AND (r.host_id IS NOT NULL OR r.desired_state = 'running')",
            {"host": host_id, "tenant": tenant_id},
        )
        assert row is not None
        return int(row["count"])
