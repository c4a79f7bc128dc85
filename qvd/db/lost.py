# -*- test-case-name: tests.contract.test_db_cluster -*-
"""
What becomes of the rows of a node that is silent: one transaction of L{qvd.db.hosts.Hosts}.

Rows are locked in the order of all other transactions: VMs by id, then nodes by id, then sessions. What is overdue is
looked for without a lock, and again under the locks: of two nodes that come at the same moment one finds nothing
any more, and a node that has registered meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from qvd.db.rows import MINE, RELEASED
from qvd.db.sessions import end_sessions_of
from qvd.interfaces import ITransaction, Row
from qvd.model.crashloop import STEADY_SECONDS
from qvd.model.host import LOST_PHASE, lost_sentence
from qvd.model.ids import HostId
from qvd.model.records import Lease, LostNode, ServerClock

# A node that has stopped, or is lost, has something to lose all the same: a daemon that leaves its VMs to a successor
# which never comes, a session whose claim was committed long after its answer had been given up.
OVERDUE = """
    h.host_id <> %(host)s
    AND h.lease_until + %(margin)s * interval '1 second' < to_timestamp(%(now)s)
    AND coalesce(h.lease_until - h.ok_ts <= %(steady)s * interval '1 second', true)
    AND (h.state IN ('starting', 'running', 'stopping')
        OR EXISTS (SELECT FROM vm_runtimes r WHERE r.host_id = h.host_id)
        OR EXISTS (SELECT FROM sessions s WHERE s.host_id = h.host_id AND s.ended_at IS NULL))
"""
# By the time of this moment: the transaction may have waited for locks.
ENTITLED = f"""
    SELECT FROM host_runtimes WHERE {MINE}
    AND lease_until > clock_timestamp() AND pg_postmaster_start_time()::text = %(server)s
"""
# The loss says nothing of the VM, but what it had done until then may.
GOOD_RUN = """
    failures = CASE WHEN vm_state = 'running' AND since < now() - %(steady)s * interval '1 second'
        THEN 0 ELSE failures END
"""
SERVED_BY = "SELECT id FROM sessions WHERE host_id = ANY(%(hosts)s) AND ended_at IS NULL"


@frozen
class LostNodes:
    """One look of one node; the parameters are those of L{qvd.interfaces.IHosts.declare_lost}."""

    lease: Lease
    margin: float
    clock: ServerClock
    steady: float

    async def declare(self, tx: ITransaction) -> Sequence[LostNode]:
        """To be run in a transaction."""
        silent = await tx.fetch(f"SELECT h.host_id FROM host_runtimes h WHERE {OVERDUE}", self._parameters())
        if not silent:
            return []
        hosts = [HostId(row["host_id"]) for row in silent]
        await tx.fetch(
            f"SELECT FROM vm_runtimes WHERE host_id = ANY(%(hosts)s) OR session_id IN ({SERVED_BY})"
            " ORDER BY vm_id FOR UPDATE",
            {"hosts": hosts},
        )
        lost = await tx.fetch(
            "SELECT h.host_id, h.state, n.name FROM host_runtimes h JOIN hosts n ON n.id = h.host_id"
            f" WHERE h.host_id = ANY(%(hosts)s) AND {OVERDUE} ORDER BY h.host_id FOR UPDATE OF h",
            self._parameters(hosts=hosts),
        )
        if not lost or await tx.fetch_one(ENTITLED, self._parameters()) is None:
            return []
        return [await self._take_from(tx, row) for row in lost]

    def _parameters(self, **others: Any) -> dict[str, Any]:
        return {
            "host": self.lease.host_id,
            "epoch": self.lease.epoch,
            "margin": self.margin,
            "steady": self.steady,
            "now": self.clock.now,
            "server": self.clock.server,
            **others,
        }

    async def _take_from(self, tx: ITransaction, host: Row) -> LostNode:
        name: str = host["name"]
        await tx.fetch(
            "SELECT set_config('qvd.cause', %s || ' is lost, noticed by ' || name, true) FROM hosts WHERE id = %s",
            (name, self.lease.host_id),
        )
        return await take_from(tx, host)


async def take_from(tx: ITransaction, host: Row) -> LostNode:
    """What the node had is anybody's. Its rows are locked, and its lease is over.

    @param host: C{host_id}, C{name} and C{state}.
    """
    if host["state"] != "lost":
        await mark(tx, host)
    await cut_relays(tx, host)
    vms = await release(tx, host)
    reason = lost_sentence(host["name"], "which served this session")
    sessions = await end_sessions_of(tx, HostId(host["host_id"]), reason)
    return LostNode(host["name"], vms, sessions)


async def mark(tx: ITransaction, host: Row) -> None:
    """The node's own row, and its line in the history."""
    await tx.execute("UPDATE host_runtimes SET state = 'lost' WHERE host_id = %(host_id)s", host)
    await tx.execute(
        "INSERT INTO events (kind, host_id, before, after, cause) SELECT 'host.lost', host_id,"
        " jsonb_build_object('state', %(state)s::text), jsonb_build_object('state', state, 'epoch', epoch,"
        " 'lease_until', lease_until), current_setting('qvd.cause') FROM host_runtimes WHERE host_id = %(host_id)s",
        host,
    )


async def cut_relays(tx: ITransaction, host: Row) -> None:
    """Sessions whose relay, at another node, ends in a VM of this one: that node hears of it and closes them. TCP alone
    would take minutes. Those that are still on their way to a desktop go on, to wherever the VM gets."""
    await tx.fetch(
        "SELECT pg_notify('qvd_session_on_host_' || other.host_id, '') FROM (SELECT DISTINCT s.host_id FROM sessions s"
        " JOIN vm_runtimes r ON r.session_id = s.id WHERE r.host_id = %(host_id)s AND s.host_id <> r.host_id"
        " AND s.state = 'connected') other",
        host,
    )
    await tx.execute(
        "UPDATE vm_runtimes r SET session_id = NULL FROM sessions s"
        " WHERE r.host_id = %(host_id)s AND s.id = r.session_id AND s.state = 'connected'",
        host,
    )


async def release(tx: ITransaction, host: Row) -> int:
    """Free the node's VMs; return how many.

    An order to start that the node has not taken up stays an order, of a VM without a node: see L{IVMs.unplaced}.
    """
    return await tx.execute(
        f"UPDATE vm_runtimes SET {RELEASED}, {GOOD_RUN}, phase = %(phase)s, host_id = NULL,"
        " last_error = CASE WHEN vm_state <> 'stopped' THEN %(ran)s ELSE %(placed)s END"
        " WHERE host_id = %(host)s",
        {
            "host": host["host_id"],
            "steady": STEADY_SECONDS,
            "phase": LOST_PHASE,
            "ran": lost_sentence(host["name"], "on which this desktop ran"),
            "placed": lost_sentence(host["name"], "on which this desktop was to start"),
        },
    )
