# -*- test-case-name: tests.admin.test_messages -*-
"""Messages to users, from the transaction that orders them to the node that hands them over."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, IMessages, ITransaction
from qvd.model.errors import Conflict
from qvd.model.ids import VMId
from qvd.model.messages import Message
from qvd.model.records import Guest, Lease
from qvd.model.secret import Secret

KEPT = "interval '5 minutes'"
"""Whoever comes back later than that need not read it any more."""
MOST_WAITING = 5
"""For one VM."""
LAPSED = "The session has ended, or its node did not take it up in time"
RUNNING = "r.vm_id = m.vm_id AND r.host_id = m.host_id AND r.session_id = m.session_id AND r.vm_state = 'running'"
# What happened to a message; its text is in the audit trail.
TOLD = """
    WITH m AS (DELETE FROM vm_messages m WHERE {which} RETURNING *)
    INSERT INTO events (kind, tenant_id, vm_id, host_id, session_id, after, cause)
    SELECT 'vm.message', tenant_id, vm_id, host_id, session_id,
        jsonb_strip_nulls(jsonb_build_object('handed_over', %(problem)s::text IS NULL, 'problem', %(problem)s::text)),
        cause FROM m
"""


async def order(tx: ITransaction, vm_id: VMId, text: str) -> bool:
    """Have the node of a VM show a text to whoever is connected; False: nobody is.

    @raise Conflict: there are too many that have not been shown yet.
    """
    await tx.execute(f"DELETE FROM vm_messages WHERE vm_id = %s AND at < clock_timestamp() - {KEPT}", (vm_id,))
    waiting = await tx.fetch_one("SELECT count(*) FROM vm_messages WHERE vm_id = %s", (vm_id,))
    if waiting is not None and waiting["count"] >= MOST_WAITING:
        raise Conflict(f"{MOST_WAITING} messages to this VM have not been shown yet")
    made = await tx.execute(
        "INSERT INTO vm_messages (tenant_id, vm_id, session_id, host_id, text)"
        " SELECT r.tenant_id, r.vm_id, s.id, r.host_id, %s FROM vm_runtimes r JOIN sessions s ON s.id = r.session_id"
        " WHERE r.vm_id = %s AND r.vm_state = 'running' AND r.host_id IS NOT NULL"
        " AND s.ended_at IS NULL AND s.state = 'connected'",
        (text, vm_id),
    )
    return made > 0


@implementer(IMessages)
@frozen
class Messages:
    """L{IMessages} over PostgreSQL."""

    db: IDatabase

    async def waiting(self, lease: Lease, most: int) -> Sequence[Message]:
        lapsed = (
            f"m.host_id = %(host)s AND (m.at < clock_timestamp() - {KEPT}"
            f" OR NOT EXISTS (SELECT FROM vm_runtimes r WHERE {RUNNING}))"
        )
        await self.db.execute(TOLD.format(which=lapsed), {"host": lease.host_id, "problem": LAPSED})
        rows = await self.db.fetch(
            "SELECT m.id, m.vm_id, m.text, r.vm_address, r.vm_vma_port, r.vm_x_port, r.vm_secret FROM vm_messages m"
            f" JOIN vm_runtimes r ON {RUNNING} AND r.host_epoch = %s WHERE m.host_id = %s ORDER BY m.id LIMIT %s",
            (lease.epoch, lease.host_id, most),
        )
        return [
            Message(
                row["id"],
                VMId(row["vm_id"]),
                Guest(row["vm_address"], row["vm_vma_port"], row["vm_x_port"], Secret(row["vm_secret"])),
                row["text"],
            )
            for row in rows
            if row["vm_address"] is not None
        ]

    async def settled(self, lease: Lease, number: int, problem: str | None) -> None:
        await self.db.execute(
            TOLD.format(which="m.id = %(number)s AND m.host_id = %(host)s"),
            {"number": number, "host": lease.host_id, "problem": problem},
        )
