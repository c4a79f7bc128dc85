# -*- test-case-name: tests.admin.test_acceptance_audit -*-
"""
Takes old rows of the audit trail away, from time to time, as C{PUT /log/retention} has it. Under a legal hold nothing
goes. Each cut is told by a row of the trail, with the place where the trail begins now, so that C{qvd-db verify-audit}
knows it from one that somebody else has made.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from qvd.admin.services import Services
from qvd.interfaces import ITransaction
from qvd.interfaces.administration import AuditEntry
from qvd.model.declared import COMMON
from qvd.model.errors import QVDError

EVERY = 3600.0
AT_ONCE = 5_000
"""Rows that one transaction takes away: whoever writes into the trail waits for it."""
DUE = """
    SELECT EXISTS (SELECT FROM audit_retention r WHERE NOT r.hold AND (SELECT a.at FROM audit a ORDER BY a.id LIMIT 1)
        < now() - r.days * interval '1 day') AS due
"""


async def take_away(services: Services, at_once: int = AT_ONCE) -> int:
    """Take away all rows that are older than they are kept. How many went."""
    gone = 0
    while True:
        row = await services.database.fetch_one(DUE)
        if row is None or not row["due"]:
            return gone

        async def work(tx: ITransaction) -> int:
            # Whether there is a hold is asked there once more, and nobody changes it until this is over.
            cut = await tx.fetch_one(
                "SELECT removed, anchor_id, encode(anchor_hash, 'hex') AS anchor_hash FROM audit_purge(%s)", (at_once,)
            )
            if cut is None or not cut["removed"]:
                return 0
            await services.audit.append(entry_of(dict(cut)), tx)
            return int(cut["removed"])

        removed = await services.changes.transact("log.purge", "log.purge by the service", work)
        if not removed:
            return gone
        gone += removed


def entry_of(cut: dict[str, Any]) -> AuditEntry:
    """The row that tells of a cut."""
    return AuditEntry(
        action="log.purge",
        outcome="done",
        request_id="",
        client_address="",
        administrator_name="the service, by itself",
        kind="log",
        object_name="retention",
        object_tenant_id=COMMON,
        after=cut,
    )


@define(eq=False)
class OldRows:
    """Does it, from C{start} to C{stop}. Several services do no harm to each other."""

    services: Services
    log = Logger()
    _turns: LoopingCall | None = None
    _turn: Deferred[None] | None = None

    async def start(self) -> None:
        self._turns = LoopingCall(self._begin)
        self._turns.clock = self.services.reactor
        self._turns.start(EVERY, now=False)

    async def stop(self) -> None:
        """What has begun is undone."""
        if self._turns is not None and self._turns.running:
            self._turns.stop()
        if self._turn is not None:
            self._turn.cancel()

    def _begin(self) -> Deferred[None]:
        self._turn = Deferred.fromCoroutine(self._once())
        return self._turn

    async def _once(self) -> None:
        try:
            gone = await take_away(self.services)
        except CancelledError:
            return
        except QVDError as error:
            self.log.warn("old rows of the audit trail stay: {reason}", reason=error.text)
        except Exception:  # noqa: BLE001  the next turn tries again
            self.log.failure("old rows of the audit trail stay")
        else:
            if gone:
                self.log.info("{rows} rows of the audit trail were older than they are kept", rows=gone)
