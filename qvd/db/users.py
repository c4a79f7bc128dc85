# -*- test-case-name: tests.contract.test_db_stores -*-
"""Accounts and bearer tokens."""

from __future__ import annotations

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction, IUsers, Row
from qvd.model.ids import TenantId, UserId, VMId
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret

MOST_TOKENS = 100
"""Of one user, good at one time."""
USER_COLUMNS = "u.id AS user_id, u.tenant_id, u.login, u.password, (u.blocked OR t.blocked) AS blocked"


def user_of(row: Row) -> User:
    """A row of C{USER_COLUMNS}."""
    return User(
        user_id=UserId(row["user_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        login=row["login"],
        password=None if row["password"] is None else Secret(row["password"]),
        blocked=row["blocked"],
    )


@implementer(IUsers)
@frozen
class Users:
    """L{IUsers} over PostgreSQL."""

    db: IDatabase

    async def find(self, tenant: str, login: str) -> User | None:
        row = await self.db.fetch_one(
            f"SELECT {USER_COLUMNS} FROM users u JOIN tenants t ON t.id = u.tenant_id"
            " WHERE lower(t.name) = lower(btrim(%s)) AND lower(u.login) = lower(btrim(%s))",
            (tenant, login),
        )
        return None if row is None else user_of(row)

    async def is_blocked(self, user_id: UserId) -> bool:
        row = await self.db.fetch_one(
            "SELECT u.blocked OR t.blocked AS blocked FROM users u JOIN tenants t ON t.id = u.tenant_id"
            " WHERE u.id = %s",
            (user_id,),
        )
        return row is None or bool(row["blocked"])

    async def rehash(self, user_id: UserId, old: Secret, new: str) -> None:
        await self.db.execute(
            "UPDATE users SET password = %s WHERE id = %s AND password = %s", (new, user_id, old.reveal())
        )

    async def redeem(self, token_hash: bytes) -> TokenUse | None:
        # One statement: of two clients with one single-use token only one gets a row back.
        row = await self.db.fetch_one(
            "WITH used AS (UPDATE user_tokens SET used_at = now()"
            "  WHERE token_hash = %s AND expires_at > now() AND (multi_use OR used_at IS NULL)"
            "  RETURNING user_id, vm_id)"
            f" SELECT {USER_COLUMNS}, used.vm_id FROM used JOIN users u ON u.id = used.user_id"
            " JOIN tenants t ON t.id = u.tenant_id",
            (token_hash,),
        )
        if row is None:
            return None
        return TokenUse(user_of(row), None if row["vm_id"] is None else VMId(row["vm_id"]))

    async def add_token(self, token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        async def add(tx: ITransaction) -> bool:
            await tx.execute(
                "DELETE FROM user_tokens WHERE expires_at <= now() OR (used_at IS NOT NULL AND NOT multi_use)"
            )
            added = await tx.execute(
                "INSERT INTO user_tokens (token_hash, tenant_id, user_id, vm_id, multi_use, expires_at)"
                " SELECT %s, %s, %s, %s, %s, now() + make_interval(secs => %s)"
                " WHERE (SELECT count(*) FROM user_tokens WHERE user_id = %s) < %s",
                (
                    token_hash,
                    user.tenant_id,
                    user.user_id,
                    terms.vm_id,
                    terms.multi_use,
                    terms.seconds,
                    user.user_id,
                    MOST_TOKENS,
                ),
            )
            return bool(added)

        return await self.db.transact("add_token", add)
