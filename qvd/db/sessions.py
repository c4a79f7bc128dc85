# -*- test-case-name: tests.contract.test_db_stores -*-
"""Who has which VM: the newest client, and nobody else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen
from zope.interface import implementer

from qvd.db.rows import MINE
from qvd.interfaces import IDatabase, ISessions, ITransaction
from qvd.model.errors import SessionLost, Unavailable
from qvd.model.host import LOST_PHASE
from qvd.model.ids import HostId, SessionId
from qvd.model.records import Lease, SessionSpec

GONE = "The node of this virtual machine does not answer any more"
TAKEN = "Another client has taken this virtual machine over"


@implementer(ISessions)
@frozen
class Sessions:
    """L{ISessions} over PostgreSQL.

    @ivar instance: UUID of the process that serves the sessions claimed here.
    """

    db: IDatabase
    instance: str | None = None

    async def claim(self, spec: SessionSpec) -> SessionId | None:
        async def work(tx: ITransaction) -> SessionId | None:
            # Lock first, look then: a statement that waited for the lock still sees the sessions of before it.
            await tx.fetch("SELECT 1 FROM vm_runtimes WHERE vm_id = %s FOR UPDATE", (spec.vm_id,))
            # A node that is lost must throw nobody out, and while its row is locked it cannot be declared lost.
            live = await tx.fetch_one(
                f"SELECT 1 FROM host_runtimes WHERE {MINE} AND lease_until > clock_timestamp() FOR SHARE",
                {"host": spec.lease.host_id, "epoch": spec.lease.epoch},
            )
            if live is None:
                raise Unavailable("This node has lost its place in the farm", retry_after=5)
            before = await tx.fetch_one(
                "SELECT s.id::text, s.host_id FROM vm_runtimes r JOIN sessions s ON s.id = r.session_id"
                " WHERE r.vm_id = %s AND s.ended_at IS NULL",
                (spec.vm_id,),
            )
            await tx.execute(
                "INSERT INTO sessions"
                " (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, instance, state)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'connecting')",
                (
                    spec.session_id,
                    spec.tenant_id,
                    spec.vm_id,
                    spec.user_id,
                    spec.lease.host_id,
                    spec.lease.epoch,
                    spec.client_address,
                    self.instance,
                ),
            )
            await tx.execute("UPDATE vm_runtimes SET session_id = %s WHERE vm_id = %s", (spec.session_id, spec.vm_id))
            if before is None:
                return None
            await tx.fetch("SELECT pg_notify('qvd_session_on_host_' || %s::text, '')", (before["host_id"],))
            return SessionId(before["id"])

        return await self.db.transact("claim_session", work)

    async def connected(self, session_id: SessionId) -> None:
        # The lock waits for whoever declares the VM's node lost, and what it has written is looked at then.
        rows = await self.db.execute(
            "WITH r AS (SELECT session_id FROM vm_runtimes WHERE session_id = %s AND phase <> %s FOR SHARE)"
            " UPDATE sessions s SET state = 'connected', connected_at = now() FROM r"
            " WHERE s.id = r.session_id AND s.state = 'connecting'",
            (session_id, LOST_PHASE),
        )
        if not rows:
            raise SessionLost(GONE if await self.is_current(session_id) else TAKEN)

    async def is_current(self, session_id: SessionId) -> bool:
        return await self.db.fetch_one("SELECT 1 FROM vm_runtimes WHERE session_id = %s", (session_id,)) is not None

    async def has_ended(self, session_id: SessionId) -> bool:
        row = await self.db.fetch_one("SELECT ended_at FROM sessions WHERE id = %s", (session_id,))
        return row is None or row["ended_at"] is not None

    async def end(self, session_id: SessionId, reason: str) -> None:
        await self.db.execute(
            "WITH over AS (UPDATE sessions SET state = 'disconnected', ended_at = now(), end_reason = %(reason)s"
            "  WHERE id = %(id)s AND ended_at IS NULL)"
            " UPDATE vm_runtimes SET session_id = NULL WHERE session_id = %(id)s",
            {"id": session_id, "reason": reason},
        )

    async def unended(self, host_id: HostId) -> Mapping[SessionId, str | None]:
        rows = await self.db.fetch(
            "SELECT s.id::text, CASE WHEN r.session_id = s.id THEN s.end_wanted"
            " WHEN r.session_id IS NULL AND r.phase = %(lost)s THEN coalesce(r.last_error, %(gone)s)"
            " ELSE %(taken)s END AS over FROM sessions s"
            " JOIN vm_runtimes r ON r.vm_id = s.vm_id WHERE s.host_id = %(host)s AND s.ended_at IS NULL"
            " AND s.instance IS NOT DISTINCT FROM %(instance)s::uuid",
            {"host": host_id, "instance": self.instance, "lost": LOST_PHASE, "gone": GONE, "taken": TAKEN},
        )
        return {SessionId(row["id"]): row["over"] for row in rows}


# Of the process that serves a session nothing may be known: then the epoch alone says that it is gone.
STALE = """
    host_id = %(host)s AND ended_at IS NULL AND NOT coalesce(instance = ANY(%(living)s::uuid[]), false)
    AND (host_epoch < %(epoch)s OR host_epoch = %(epoch)s AND instance IS NOT NULL)
"""


async def end_stale_sessions(tx: ITransaction, lease: Lease, reason: str, living: Collection[str]) -> int:
    """End the open sessions of a node that none of its C{living} processes serves; return how many."""
    parameters = {"host": lease.host_id, "epoch": lease.epoch, "reason": reason, "living": list(living)}
    # The VMs first, in the order of all transactions.
    await tx.fetch(
        f"SELECT FROM vm_runtimes WHERE session_id IN (SELECT id FROM sessions WHERE {STALE})"
        " ORDER BY vm_id FOR UPDATE",
        parameters,
    )
    ended = await tx.fetch(
        "UPDATE sessions SET state = 'disconnected', ended_at = now(), end_reason = %(reason)s"
        f" WHERE {STALE} RETURNING id::text",
        parameters,
    )
    if ended:
        await tx.execute(
            "UPDATE vm_runtimes SET session_id = NULL WHERE session_id = ANY(%s::uuid[])",
            ([row["id"] for row in ended],),
        )
    return len(ended)


async def end_sessions_of(tx: ITransaction, host_id: HostId, reason: str) -> int:
    """End the open sessions that a node served; return how many."""
    ended = await tx.execute(
        "UPDATE sessions SET state = 'disconnected', ended_at = now(), end_reason = %(reason)s"
        " WHERE host_id = %(host)s AND ended_at IS NULL",
        {"host": host_id, "reason": reason},
    )
    await tx.execute(
        "UPDATE vm_runtimes r SET session_id = NULL FROM sessions s"
        " WHERE r.session_id = s.id AND s.ended_at IS NOT NULL AND s.host_id = %s",
        (host_id,),
    )
    return ended
