# -*- test-case-name: tests.contract.test_db_orders -*-
"""What administrators order of VMs, in their own transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.images import IMAGE_TABLES
from qvd.db.messages import order
from qvd.db.vms import VMs, locked, start, stop
from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.orders import Boot, Happened, IOrders
from qvd.model.ids import VMId
from qvd.model.placement import Decision, Weights
from qvd.model.records import VM, Explanation

TABLES = {"user": "users", "osf": "osfs"}


@implementer(IOrders)
@frozen
class Orders:
    """L{IOrders} over PostgreSQL, as the role of the API.

    @ivar chance: a number from 0 to 1, for the random part of a placement.
    """

    db: IDatabase
    weights: Weights
    chance: Callable[[], float]

    async def locked(self, tx: ITransaction, vm_id: VMId) -> VM:
        return await locked(tx, vm_id)

    async def start(self, tx: ITransaction, vm_id: VMId) -> Decision | None:
        return await start(tx, vm_id, self.weights, self.chance)

    async def refused(self, tx: ITransaction, vm_id: VMId, decision: Decision) -> None:
        await tx.execute(
            "UPDATE vm_runtimes SET last_error = %s, placement = %s WHERE vm_id = %s AND host_id IS NULL",
            (decision.refusal, json.dumps(decision.document()), vm_id),
        )

    async def stop(self, tx: ITransaction, vm_id: VMId, forced: bool) -> None:
        await stop(tx, vm_id, forced)

    async def restart(self, tx: ITransaction, vm_id: VMId) -> None:
        await stop(tx, vm_id)
        await tx.execute("UPDATE vm_runtimes SET restart = true WHERE vm_id = %s AND vm_state <> 'stopped'", (vm_id,))

    async def forget_failures(self, tx: ITransaction, vm_id: VMId) -> None:
        await tx.execute("UPDATE vm_runtimes SET failures = 0, retry_at = NULL WHERE vm_id = %s", (vm_id,))

    async def disconnect(self, tx: ITransaction, vm_id: VMId, reason: str) -> bool:
        touched = await tx.execute(
            "UPDATE sessions s SET end_wanted = %s FROM vm_runtimes r"
            " WHERE r.vm_id = %s AND s.id = r.session_id AND s.ended_at IS NULL",
            (reason, vm_id),
        )
        return touched > 0

    async def message(self, tx: ITransaction, vm_id: VMId, text: str) -> bool:
        return await order(tx, vm_id, text)

    async def boots(self, tx: ITransaction, vm_id: VMId) -> Boot:
        row = await tx.fetch_one(
            "SELECT used.version AS in_use, d.version AS assigned FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id"
            f" LEFT JOIN dis used ON used.id = r.current_di_id {IMAGE_TABLES} WHERE v.id = %s",
            (vm_id,),
        )
        return Boot(None, None) if row is None else Boot(**row)

    async def explain(self, vm_id: VMId) -> Explanation | None:
        return await VMs(self.db, self.weights, self.chance).explain(vm_id)

    async def history(self, vm_id: VMId, before: int | None, limit: int) -> Sequence[Happened]:
        rows = await self.db.fetch(
            "SELECT id, at, kind, host_id, session_id::text, user_id, before, after, cause FROM events"
            " WHERE vm_id = %(vm)s AND coalesce(id < %(before)s::bigint, true) ORDER BY id DESC LIMIT %(limit)s",
            {"vm": vm_id, "before": before, "limit": limit},
        )
        return [Happened(**row) for row in rows]

    async def tenant_of(self, tx: ITransaction, kind: str, object_id: int) -> int | None:
        row = await tx.fetch_one(f"SELECT tenant_id FROM {TABLES[kind]} WHERE id = %s FOR KEY SHARE", (object_id,))
        return None if row is None else int(row["tenant_id"])
