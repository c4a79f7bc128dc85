# -*- test-case-name: tests.contract.test_db_expiry -*-
"""The dates of running VMs, by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, IExpiry, ITransaction, Row
from qvd.model.expiry import Expiring, ExpiryDate, Notice
from qvd.model.ids import VMId
from qvd.model.records import Guest, Lease
from qvd.model.secret import Secret

OURS = """
    r.host_id = %(host)s AND r.host_epoch = %(epoch)s AND r.vm_state = 'running' AND r.desired_state = 'running'
    AND (r.vm_expiration_soft IS NOT NULL OR r.vm_expiration_hard IS NOT NULL)
"""
DATE = """
    extract(epoch FROM r.vm_expiration_{0} - clock_timestamp())::float8 AS {0}_seconds,
    to_char(r.vm_expiration_{0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS {0}_text,
    r.vm_expiration_{0} IS NOT DISTINCT FROM r.vm_expiration_{0}_told AS {0}_told
"""
HARD = "r.vm_expiration_hard <= clock_timestamp()"
SOFT = "r.vm_expiration_soft <= clock_timestamp() AND r.session_id IS NULL"
# In this order: of a VM with both the hard date is the one that counts.
STOPS = (
    (HARD, "the image has expired"),
    (SOFT, "the image has expired, and nobody is connected"),
)


@implementer(IExpiry)
@frozen
class Expiry:
    """L{IExpiry} over PostgreSQL."""

    db: IDatabase

    async def expiring(self, lease: Lease) -> Sequence[Expiring]:
        rows = await self.db.fetch(
            f"SELECT r.vm_id, {DATE.format('soft')}, {DATE.format('hard')}, r.session_id IS NOT NULL AS taken,"
            " coalesce(s.state = 'connected', false) AS connected,"
            " r.vm_address, r.vm_vma_port, r.vm_x_port, r.vm_secret"
            f" FROM vm_runtimes r LEFT JOIN sessions s ON s.id = r.session_id WHERE {OURS} ORDER BY r.vm_id",
            {"host": lease.host_id, "epoch": lease.epoch},
        )
        return [expiring_of(row) for row in rows]

    async def told(self, lease: Lease, vm_id: VMId, notice: Notice, text: str) -> None:
        date = f"vm_expiration_{notice.value}"
        await self.db.execute(
            f"UPDATE vm_runtimes r SET {date}_told = {date} WHERE r.vm_id = %(vm)s AND {OURS}"
            f" AND to_char({date} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') = %(text)s",
            {"vm": vm_id, "host": lease.host_id, "epoch": lease.epoch, "text": text},
        )

    async def stop_due(self, lease: Lease) -> Sequence[VMId]:
        async def work(tx: ITransaction) -> Sequence[VMId]:
            stopped = []
            # All in order of id, before the second of these begins again at the lowest.
            await tx.fetch(
                f"SELECT FROM vm_runtimes r WHERE {OURS} AND ({HARD} OR {SOFT}) ORDER BY r.vm_id FOR UPDATE",
                {"host": lease.host_id, "epoch": lease.epoch},
            )
            for due, cause in STOPS:
                stopped += await stop(tx, lease, due, cause)
            return stopped

        return await self.db.transact("stop_expired", work)


async def stop(tx: ITransaction, lease: Lease, due: str, cause: str) -> list[VMId]:
    """Order the stop of the VMs that are C{due}. They are looked at again under their locks: a client that has come
    meanwhile keeps its desktop."""
    parameters = {"host": lease.host_id, "epoch": lease.epoch}
    await tx.fetch("SELECT set_config('qvd.cause', %s, true)", (cause,))
    locked = await tx.fetch(
        f"SELECT r.vm_id FROM vm_runtimes r WHERE {OURS} AND {due} ORDER BY r.vm_id FOR UPDATE", parameters
    )
    vm_ids = [VMId(row["vm_id"]) for row in locked]
    if vm_ids:
        await tx.execute(
            "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1 WHERE vm_id = ANY (%s)",
            (vm_ids,),
        )
    return vm_ids


def expiring_of(row: Row) -> Expiring:
    guest = Guest(row["vm_address"], row["vm_vma_port"], row["vm_x_port"], Secret(row["vm_secret"]))
    soft, hard = date_of(row, "soft"), date_of(row, "hard")
    return Expiring(VMId(row["vm_id"]), guest, soft, hard, row["taken"], row["connected"])


def date_of(row: Row, name: str) -> ExpiryDate | None:
    seconds = row[f"{name}_seconds"]
    return None if seconds is None else ExpiryDate(seconds, row[f"{name}_text"], row[f"{name}_told"])
