# -*- test-case-name: tests.contract.test_db_stores -*-
"""This node's row: registration, lease, state."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.drain import drain
from qvd.db.enrolment import digest
from qvd.db.lost import LostNodes
from qvd.db.rows import MINE
from qvd.db.sessions import end_stale_sessions
from qvd.interfaces import IDatabase, IHosts, ITransaction
from qvd.model.errors import Forbidden, NotFound, OwnershipLost, QVDError
from qvd.model.ids import Epoch, HostId
from qvd.model.records import Capacity, Drain, HostState, HostStatus, Lease, LostNode, ServerClock
from qvd.model.secret import Secret


@implementer(IHosts)
@frozen
class Hosts:
    """L{IHosts} over PostgreSQL.

    @param identity: what this machine got when it was enrolled; L{None} where it was not.
    """

    db: IDatabase
    identity: Callable[[], Secret | None] = lambda: None

    async def register(
        self,
        name: str,
        address: str,
        lease_seconds: float,
        hypervisor: str | None = None,
        state: HostState = HostState.STARTING,
    ) -> Lease:
        identity = self.identity()
        row = await self.db.fetch_one(
            "UPDATE host_runtimes r SET epoch = epoch + 1, state = %(state)s, ok_ts = now(), pid = %(pid)s,"
            # Also for a node that does not say: what an earlier one said is not true of it.
            " hypervisor = %(hypervisor)s,"
            " lease_until = now() + %(seconds)s * interval '1 second'"
            " FROM hosts h WHERE h.id = r.host_id AND h.name = %(name)s AND r.decommissioned_at IS NULL"
            " AND (h.identity_hash IS NULL OR h.identity_hash = %(identity)s) RETURNING r.host_id, r.epoch",
            {
                "name": name,
                "pid": os.getpid(),
                "state": state.value,
                "hypervisor": hypervisor,
                "seconds": lease_seconds,
                "identity": None if identity is None else digest(identity),
            },
        )
        if row is None:
            raise await self._refusal(name)
        return Lease(HostId(row["host_id"]), Epoch(row["epoch"]))

    async def _refusal(self, name: str) -> QVDError:
        """Why no node of this name could be registered."""
        row = await self.db.fetch_one(
            "SELECT to_char(r.decommissioned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS decommissioned"
            " FROM hosts h JOIN host_runtimes r ON r.host_id = h.id WHERE h.name = %s",
            (name,),
        )
        if row is None:
            return NotFound(
                f"No host is called {name!r} in the database: run qvd-node enrol, or mend nodename in node.conf"
            )
        if row["decommissioned"] is not None:
            return Forbidden(
                f"The node {name!r} was decommissioned at {row['decommissioned']} UTC and is no part of the farm any"
                " more: stop this daemon, or run qvd-node enrol to make the machine a node again"
            )
        return Forbidden(
            f"Another machine is enrolled as {name!r}: give this one a nodename of its own in node.conf, or enrol it"
            f" with a token that was made for {name!r}"
        )

    async def renew(self, lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        row = await self.db.fetch_one(
            "UPDATE host_runtimes SET ok_ts = now(), lease_until = now() + %(seconds)s * interval '1 second',"
            # One that is over is not renewed, whoever has noticed: a node that was stopped meanwhile begins anew.
            " usable_ram = %(memory)s, usable_cpu = %(cpus)s, available_ram = %(available)s, idle_cpu = %(idle)s,"
            " cpu_pressure = %(cpu_pressure)s, memory_pressure = %(memory_pressure)s"
            f" WHERE {MINE} AND lease_until > now()"
            " RETURNING state, blocked, drain",
            {
                "host": lease.host_id,
                "epoch": lease.epoch,
                "seconds": lease_seconds,
                "memory": capacity.memory,
                "cpus": capacity.cpus,
                "available": capacity.available,
                "idle": capacity.idle,
                "cpu_pressure": capacity.cpu_pressure,
                "memory_pressure": capacity.memory_pressure,
            },
        )
        if row is None:
            raise OwnershipLost("The lease of this node is over: not renewed in time, or another epoch has begun")
        return HostStatus(
            HostState(row["state"]), row["blocked"], None if row["drain"] is None else Drain(row["drain"])
        )

    async def set_state(self, lease: Lease, state: HostState) -> None:
        touched = await self.db.execute(
            f"UPDATE host_runtimes SET state = %(state)s WHERE {MINE}",
            {"host": lease.host_id, "epoch": lease.epoch, "state": state.value},
        )
        if not touched:
            raise OwnershipLost("The lease of this node is over")

    async def drain(self, lease: Lease) -> int:
        async def work(tx: ITransaction) -> int:
            return await drain(tx, lease.host_id)

        return await self.db.transact("drain", work)

    async def end_stale_sessions(self, lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        async def work(tx: ITransaction) -> int:
            return await end_stale_sessions(tx, lease, reason, living)

        return await self.db.transact("end_stale_sessions", work)

    async def read_clock(self) -> ServerClock:
        row = await self.db.fetch_one(
            "SELECT pg_postmaster_start_time()::text AS server, extract(epoch FROM clock_timestamp())::float8 AS now"
        )
        assert row is not None
        return ServerClock(row["server"], row["now"])

    async def declare_lost(
        self, lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        work = LostNodes(lease, margin_seconds, clock, steady_seconds).declare
        return await self.db.transact("declare_lost", work)
