# -*- test-case-name: tests.admin.test_log -*-
"""For how long the audit trail is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import IDatabase, ITransaction
from qvd.model.declared import COMMON

MOST = 100_000
"""Rows that one call takes away."""


class Retention(msgspec.Struct, forbid_unknown_fields=True):
    """How long. C{days} null: for ever. Under a legal hold nothing is taken away, however old."""

    days: int | None
    hold: bool
    hold_reason: str
    oldest: str | None
    rows_purged: int


class NewRetention(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of it. A hold needs a reason."""

    days: Annotated[int, msgspec.Meta(ge=30, le=36500)] | UnsetType | None = UNSET
    hold: bool | UnsetType = UNSET
    hold_reason: Annotated[str, msgspec.Meta(max_length=1000)] | UnsetType = UNSET


class Purge(msgspec.Struct, forbid_unknown_fields=True):
    """How many rows went; C{more}: others are as old, call again."""

    removed: int
    more: bool


class AuditRetention:
    """The operations on it."""

    def __init__(self, peers: object) -> None:
        """@param peers: all collections; none of them is of use here."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        common: dict[str, Any] = {"need": acl("log.manage.", superadmin=True), "tag": "log"}
        return [
            Endpoint(
                method="GET",
                path="/log/retention",
                action="log.read-retention",
                handler=self.read,
                summary="Log: for how long rows are kept",
                answers={200: Retention},
                **common,
            ),
            Endpoint(
                method="PUT",
                path="/log/retention",
                action="log.set-retention",
                handler=self.change,
                summary="Log: for how long rows are kept; and whether all are, for a court",
                body=NewRetention,
                answers={200: Retention},
                dangerous=True,
                **common,
            ),
            Endpoint(
                method="POST",
                path="/log/retention/run",
                action="log.purge",
                handler=self.purge,
                summary="Log: take away the rows that are older. The trail can be verified afterwards as before",
                answers={200: Purge},
                dangerous=True,
                **common,
            ),
        ]

    async def read(self, call: Call) -> Answer:
        return Answer(200, await retention(call.services.database))

    async def change(self, call: Call) -> Answer:
        body: NewRetention = call.body

        async def work(tx: ITransaction) -> Answer:
            await tx.fetch("SELECT FROM audit_retention FOR UPDATE")
            before = await retention(tx)
            given = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
            wanted = msgspec.structs.replace(before, **given)
            if wanted.hold and not wanted.hold_reason.strip():
                raise Problem("invalid-value", "Say why: hold_reason", [Fault("/hold_reason", "is needed for a hold")])
            await tx.execute(
                "UPDATE audit_retention SET days = %s, hold = %s, hold_reason = %s",
                (wanted.days, wanted.hold, wanted.hold_reason if wanted.hold else ""),
            )
            after = await retention(tx)
            call.subject = Subject("log", None, "retention", COMMON, told(before), told(after))
            return Answer(200, after)

        return await call.change(work)

    async def purge(self, call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            row = await tx.fetch_one(
                "SELECT removed, anchor_id, encode(anchor_hash, 'hex') AS anchor_hash FROM audit_purge(%s)", (MOST,)
            )
            assert row is not None
            # By this row qvd-db verify-audit knows that the trail's beginning is where it was cut off on purpose.
            call.subject = Subject("log", None, "retention", COMMON, None, dict(row))
            return Answer(200, Purge(row["removed"], row["removed"] == MOST))

        return await call.change(work)


async def retention(reads: ITransaction | IDatabase) -> Retention:
    """How it is set."""
    row = await reads.fetch_one(
        "SELECT r.days, r.hold, r.hold_reason, r.anchor_id AS rows_purged,"
        " (SELECT a.at FROM audit a ORDER BY a.id LIMIT 1) AS oldest FROM audit_retention r"
    )
    assert row is not None
    oldest = None if row["oldest"] is None else row["oldest"].isoformat()
    return Retention(row["days"], row["hold"], row["hold_reason"], oldest, row["rows_purged"])


def told(found: Retention) -> dict[str, Any]:
    """For the audit trail."""
    return {"days": found.days, "hold": found.hold, "hold_reason": found.hold_reason}
