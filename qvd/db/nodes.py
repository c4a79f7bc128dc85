# -*- test-case-name: tests.contract.test_db_nodes -*-
"""
The nodes of a farm as administrators see and command them.

Each command changes one row of C{host_runtimes}; the schema's trigger writes who has done what, with state and flags
before and after, and rings at the node. A command that would change nothing writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from qvd.db.drain import GOES_ON, ORDERED, drain
from qvd.db.vms import say_cause
from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.model.errors import Conflict, NotFound
from qvd.model.ids import HostId
from qvd.model.nodes import NodeSummary
from qvd.model.records import Drain, HostState

SUMMARIES = """
    SELECT h.id AS host_id, h.name, h.address, r.state, r.blocked, r.drain,
        r.decommissioned_at IS NOT NULL AS decommissioned,
        extract(epoch FROM r.lease_until - now())::float8 AS lease_seconds,
        coalesce(bound.vms, 0) AS vms, coalesce(served.sessions, 0) AS sessions,
        r.usable_ram AS usable, r.usable_ram - coalesce(bound.memory, 0) AS free, r.available_ram AS available,
        r.usable_cpu AS cores, r.idle_cpu AS idle
    FROM hosts h JOIN host_runtimes r ON r.host_id = h.id LEFT JOIN (
        SELECT b.host_id, count(*) AS vms, sum(b.reserved_ram)::bigint AS memory FROM vm_runtimes b
        WHERE b.host_id IS NOT NULL GROUP BY b.host_id
    ) bound ON bound.host_id = h.id LEFT JOIN (
        SELECT s.host_id, count(*) AS sessions FROM sessions s WHERE s.ended_at IS NULL GROUP BY s.host_id
    ) served ON served.host_id = h.id WHERE %(all)s OR r.decommissioned_at IS NULL ORDER BY h.name
"""
CONCERNED = {Drain.WAIT: f"({ORDERED})", Drain.STOP: f"({ORDERED} OR {GOES_ON})"}
"""By the way of draining: the VMs that do not stay as they are."""
GONE = (HostState.STOPPED.value, HostState.LOST.value)


@frozen
class Nodes:
    """Of one farm. Each command takes the node's name, and the C{cause}: who wants it, for the history.

    All raise L{NotFound} when there is no such node, or it was decommissioned.
    """

    db: IDatabase

    async def summaries(self, decommissioned: bool = False) -> Sequence[NodeSummary]:
        """All nodes by name, on request also those that are none any more."""
        return [summary_of(row) for row in await self.db.fetch(SUMMARIES, {"all": decommissioned})]

    async def block(self, name: str, cause: str) -> bool:
        """No new clients and no new VMs there. VMs that run stay, and can be reached through other nodes.

        @return: L{False}: it was so already. The same for the others.
        """
        return await self._set(name, "blocked = true", "NOT blocked", cause)

    async def unblock(self, name: str, cause: str) -> bool:
        """The end of L{block}."""
        return await self._set(name, "blocked = false", "blocked", cause)

    async def drain(self, name: str, mode: Drain, cause: str) -> int:
        """No new VMs there; those that are there stop, at once or when they like.

        @return: to how many VMs something is done: ordered to stop, or to start elsewhere.
        """

        async def flag(tx: ITransaction) -> Row:
            await say_cause(tx, cause)
            host_id = (await known(tx, name))["host_id"]
            # The bell of this transaction tells the node, which may have done it all before we get there.
            row = await tx.fetch_one(
                f"SELECT %(host)s AS host_id, count(*) FROM vm_runtimes WHERE host_id = %(host)s AND {CONCERNED[mode]}",
                {"host": host_id},
            )
            assert row is not None
            await set_flag(tx, host_id, f"drain = '{mode.value}'", f"drain IS DISTINCT FROM '{mode.value}'")
            return row

        row = await self.db.transact("set_drain", flag)
        await self.db.transact("drain", lambda tx: drain(tx, HostId(row["host_id"])))
        return int(row["count"])

    async def undrain(self, name: str, cause: str) -> bool:
        """New VMs may start there again. One that was ordered to stop does."""
        return await self._set(name, "drain = NULL", "drain IS NOT NULL", cause)

    async def decommission(self, name: str, cause: str) -> None:
        """The node is none any more. Its row stays, for the history and for the next node of its name.

        @raise Conflict: it is not drained, not empty, or not stopped.
        """

        async def work(tx: ITransaction) -> None:
            await say_cause(tx, cause)
            await decommission(tx, (await known(tx, name))["host_id"])

        await self.db.transact("decommission", work)

    async def _set(self, name: str, change: str, unless_so: str, cause: str) -> bool:
        async def work(tx: ITransaction) -> bool:
            await say_cause(tx, cause)
            return await set_flag(tx, (await known(tx, name))["host_id"], change, unless_so)

        return await self.db.transact("set_host", work)


async def decommission(tx: ITransaction, host_id: HostId) -> None:
    """See L{Nodes.decommission}. While its row is locked no VM is bound to it, no session begins at it and its daemon
    does not register."""
    row = await tx.fetch_one(
        "SELECT r.host_id, h.name, r.state, r.drain FROM hosts h JOIN host_runtimes r ON r.host_id = h.id"
        " WHERE h.id = %s AND r.decommissioned_at IS NULL FOR UPDATE OF r",
        (host_id,),
    )
    if row is None:
        raise NotFound("It was decommissioned already")
    reason = await in_the_way(tx, row)
    if reason is not None:
        raise Conflict(f"The node {row['name']!r} {reason}")
    await tx.execute("UPDATE host_runtimes SET decommissioned_at = now() WHERE host_id = %(host_id)s", row)


async def in_the_way(tx: ITransaction, row: Row) -> str | None:
    """Why it cannot be decommissioned."""
    if row["drain"] is None:
        return "takes new VMs: drain it first"
    if row["state"] not in GONE:
        return f"is {row['state']}: stop its daemon first"
    left = await tx.fetch_one(
        "SELECT (SELECT count(*) FROM vm_runtimes WHERE host_id = %(host_id)s) AS vms,"
        " (SELECT count(*) FROM sessions WHERE host_id = %(host_id)s AND ended_at IS NULL) AS sessions",
        row,
    )
    assert left is not None
    if left["vms"] or left["sessions"]:
        return (
            f"has {left['vms']} VMs and {left['sessions']} sessions left: those of a stopped node are taken from it"
            " when its lease is over, by another node"
        )
    return None


async def set_flag(tx: ITransaction, host_id: int, change: str, unless_so: str) -> bool:
    """Whether anything has changed."""
    return bool(
        await tx.execute(
            f"UPDATE host_runtimes SET {change} WHERE host_id = %s AND {unless_so} AND decommissioned_at IS NULL",
            (host_id,),
        )
    )


async def known(tx: ITransaction, name: str) -> Row:
    """@raise NotFound: no node is called so."""
    row = await tx.fetch_one(
        "SELECT r.host_id, r.state, r.drain FROM hosts h JOIN host_runtimes r ON r.host_id = h.id"
        " WHERE h.name = %s AND r.decommissioned_at IS NULL",
        (name,),
    )
    if row is None:
        raise NotFound(f"No node is called {name!r}: qvd-node status lists them")
    return row


def summary_of(row: Row) -> NodeSummary:
    """A row of C{SUMMARIES}."""
    return NodeSummary(
        **{
            **row,
            "host_id": HostId(row["host_id"]),
            "state": HostState(row["state"]),
            "drain": None if row["drain"] is None else Drain(row["drain"]),
        }
    )
