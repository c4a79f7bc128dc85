# -*- test-case-name: tests.admin.test_throttle -*-
"""Failures to log in, counted in the database for all servers together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.logins import Attempt, Bucket, IAttempts, Limit

KEPT_DAYS = 30
"""For so long an address is known as one of an account's own."""
# By the clock, not by when the transaction began: it may have waited for another one's end.
STATE = f"""
    SELECT kind, failures, extract(epoch FROM until - clock_timestamp())::float AS wait,
        extract(epoch FROM clock_timestamp() - last_at)::float AS quiet,
        coalesce(good_at > now() - interval '{KEPT_DAYS} days', false) AS good
    FROM login_attempts WHERE (kind, key) IN (SELECT * FROM unnest(%s::text[], %s::bytea[])) ORDER BY kind FOR UPDATE
"""
MADE = """
    INSERT INTO login_attempts (kind, key, failures, last_at, until)
    SELECT kind, key, 0, now(), now() FROM unnest(%s::text[], %s::bytea[]) AS b (kind, key) ORDER BY kind
    ON CONFLICT DO NOTHING
"""
COUNTED = """
    UPDATE login_attempts SET failures = %s, last_at = now(), until = now() + make_interval(secs => %s)
    WHERE kind = %s AND key = %s
"""
# What the attempt itself had to wait for is over, and what it added to that is undone.
UNCOUNTED = "UPDATE login_attempts SET failures = greatest(failures - 1, 0), until = now() WHERE kind = %s AND key = %s"
GOOD = "UPDATE login_attempts SET failures = 0, until = now(), good_at = now() WHERE kind = %s AND key = %s"
FORGOTTEN = f"""
    DELETE FROM login_attempts WHERE (kind, key) IN (SELECT kind, key FROM login_attempts
        WHERE last_at < now() - interval '1 day' AND until < now()
            AND coalesce(good_at < now() - interval '{KEPT_DAYS} days', true)
        ORDER BY last_at LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


def wait_after(failures: int, limit: Limit) -> int:
    """Seconds to wait after that many failures."""
    over = failures - limit.free
    return 0 if over < 0 else min(limit.longest, limit.first << min(over, 20))


@implementer(IAttempts)
@frozen
class Attempts:
    """L{IAttempts} over PostgreSQL."""

    db: IDatabase

    async def begin(self, buckets: Sequence[Bucket]) -> Attempt:
        by_kind = {bucket.kind: bucket for bucket in buckets}
        keys = ([bucket.kind for bucket in buckets], [bucket.key for bucket in buckets])

        async def work(tx: ITransaction) -> Attempt:
            await tx.execute(MADE, keys)
            rows = await tx.fetch(STATE, keys)
            if any(row["kind"] == "pair" and row["good"] for row in rows):
                rows = [row for row in rows if row["kind"] == "pair"]
            wait = max((row["wait"] for row in rows), default=0.0)
            if wait > 0:
                return Attempt(math.ceil(wait))
            for row in rows:
                bucket = by_kind[row["kind"]]
                failures = 1 if row["quiet"] > bucket.limit.forget else row["failures"] + 1
                await tx.execute(COUNTED, (failures, wait_after(failures, bucket.limit), bucket.kind, bucket.key))
            return Attempt(0, tuple(by_kind[row["kind"]] for row in rows))

        return await self.db.transact("login_attempt", work)

    async def succeeded(self, attempt: Attempt, tx: ITransaction | None = None, proven: bool = True) -> None:
        async def work(tx: ITransaction) -> None:
            await tx.execute(FORGOTTEN)
            for bucket in sorted(attempt.counted, key=lambda each: each.kind):
                good = proven and bucket.kind == "pair"
                await tx.execute(GOOD if good else UNCOUNTED, (bucket.kind, bucket.key))

        if tx is None:
            await self.db.transact("login_success", work)
        else:
            await work(tx)
