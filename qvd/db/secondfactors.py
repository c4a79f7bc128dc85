# -*- test-case-name: tests.admin.test_mfa -*-
"""Shared secrets of administrators' authenticators, and what replaces a lost one."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.logins import ISecondFactors
from qvd.model.secret import Secret


@implementer(ISecondFactors)
@frozen
class SecondFactors:
    """L{ISecondFactors} over PostgreSQL."""

    db: IDatabase

    async def enrol(self, administrator_id: int, secret: Secret, tx: ITransaction) -> bool:
        made = await tx.execute(
            "INSERT INTO administrator_totp (administrator_id, secret) VALUES (%s, %s) ON CONFLICT (administrator_id)"
            " DO UPDATE SET secret = excluded.secret, last_counter = 0 WHERE administrator_totp.confirmed_at IS NULL",
            (administrator_id, secret.reveal()),
        )
        return bool(made)

    async def confirm(self, administrator_id: int, counter: int, codes: Sequence[bytes], tx: ITransaction) -> bool:
        confirmed = await tx.execute(
            "UPDATE administrator_totp SET confirmed_at = now(), last_counter = %s"
            " WHERE administrator_id = %s AND confirmed_at IS NULL",
            (counter, administrator_id),
        )
        if not confirmed:
            return False
        await tx.execute(
            "INSERT INTO administrator_recovery_codes (administrator_id, hash) SELECT %s, unnest(%s::bytea[])",
            (administrator_id, list(codes)),
        )
        return True

    async def use(self, administrator_id: int, counter: int, tx: ITransaction) -> bool:
        # Of two logins with one code, the second finds it used up.
        used = await tx.execute(
            "UPDATE administrator_totp SET last_counter = %s WHERE administrator_id = %s AND last_counter < %s",
            (counter, administrator_id, counter),
        )
        return bool(used)

    async def use_recovery(self, administrator_id: int, code: bytes, tx: ITransaction) -> bool:
        used = await tx.execute(
            "DELETE FROM administrator_recovery_codes WHERE administrator_id = %s AND hash = %s",
            (administrator_id, code),
        )
        return bool(used)

    async def drop(self, administrator_id: int, tx: ITransaction) -> bool:
        return bool(await tx.execute("DELETE FROM administrator_totp WHERE administrator_id = %s", (administrator_id,)))

    async def recovery_codes_left(self, administrator_id: int) -> int:
        row = await self.db.fetch_one(
            "SELECT count(*) AS left FROM administrator_recovery_codes WHERE administrator_id = %s", (administrator_id,)
        )
        return int(row["left"]) if row else 0
