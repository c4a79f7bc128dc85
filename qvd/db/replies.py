# -*- test-case-name: tests.admin.test_replies -*-
"""Answers to requests that carry a key of the caller's, so that one that is sent again does nothing again."""

from __future__ import annotations

import json

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.logins import IReplies, KeptReply

OLD = "interval '24 hours'"
PURGE = f"""
    DELETE FROM replies WHERE (administrator_id, key) IN (SELECT administrator_id, key FROM replies
        WHERE at < now() - {OLD} ORDER BY at LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


@implementer(IReplies)
@frozen
class Replies:
    """L{IReplies} over PostgreSQL."""

    db: IDatabase

    async def find(self, administrator_id: int, key: str) -> tuple[bytes, KeptReply] | None:
        row = await self.db.fetch_one(
            "SELECT digest, status, headers, body FROM replies"
            f" WHERE administrator_id = %s AND key = %s AND at >= now() - {OLD}",
            (administrator_id, key),
        )
        if row is None:
            return None
        kept = KeptReply(status=row["status"], headers=row["headers"], body=bytes(row["body"]))
        return bytes(row["digest"]), kept

    async def keep(self, administrator_id: int, key: str, digest: bytes, reply: KeptReply, tx: ITransaction) -> bool:
        await tx.execute(PURGE)
        # Of two at a time the second waits here for the first, and then finds its row.
        kept = await tx.execute(
            "INSERT INTO replies (administrator_id, key, digest, status, headers, body) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (administrator_id, key) DO UPDATE SET digest = excluded.digest, status = excluded.status,"
            f" headers = excluded.headers, body = excluded.body, at = now() WHERE replies.at < now() - {OLD}",
            (
                administrator_id,
                key,
                digest,
                reply.status,
                json.dumps(dict(reply.headers)),
                reply.body,
            ),
        )
        return bool(kept)
