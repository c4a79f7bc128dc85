# -*- test-case-name: tests.admin.test_replies -*-
"""Answers that are kept for requests that are sent again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen

from qvd.admin.call import Answer
from qvd.admin.problems import Problem
from qvd.admin.site import encode
from qvd.interfaces import ITransaction
from qvd.interfaces.logins import IReplies, KeptReply
from qvd.model.declared import Principal

MEDIA = "content-type"


@frozen
class KeptReplies:
    """L{qvd.admin.services.Replies} over a store."""

    store: IReplies

    async def find(self, principal: Principal, key: str, digest: bytes) -> Answer | None:
        found = await self.store.find(principal.administrator_id, key)
        if found is None:
            return None
        kept_digest, reply = found
        if kept_digest != digest:
            raise Problem("idempotency-mismatch", "The Idempotency-Key was used for another request")
        headers = dict(reply.headers)
        media = headers.pop(MEDIA, "application/json")
        body = json.loads(reply.body) if reply.body and "json" in media else reply.body or None
        return Answer(reply.status, body, headers, media)

    def keeper(self, principal: Principal, key: str, digest: bytes) -> Callable[[Any, ITransaction], Awaitable[None]]:
        async def keep(result: Any, tx: ITransaction) -> None:
            assert isinstance(result, Answer), "a change of an operation with POST returns its answer"
            body = result.body or b""
            body = body if isinstance(body, bytes) else encode(body)
            reply = KeptReply(status=result.status, headers={**result.headers, MEDIA: result.media}, body=body)
            if not await self.store.keep(principal.administrator_id, key, digest, reply, tx):
                # Answered meanwhile; the dispatcher finds that answer.
                raise Problem("conflict", "The same request is being answered: send it again")

        return keep
