# -*- test-case-name: tests.admin.test_login,tests.admin.test_tokens -*-
"""Accounts of administrators, their sessions and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.interfaces.logins import Account, ILogins, Known, Lifetime, NewSession, Totp
from qvd.model.declared import SUPERTENANT
from qvd.model.secret import Secret

MOST_SESSIONS, MOST_TOKENS = 20, 50
"""Of one administrator."""
TOUCHED = "interval '1 minute'"
"""The last use is known to that: reading does not write each time."""
PROFILE = ("language", "page_size", "description", "time_zone", "theme")
ACCOUNT = """
    SELECT a.id, a.name, a.tenant_id, t.name AS tenant_name, t.blocked AS tenant_blocked, a.password,
        NOT a.blocked AND coalesce(a.password_expires_at > now(), true) AS usable,
        m.secret, m.confirmed_at IS NOT NULL AS confirmed, m.last_counter, extract(epoch FROM now())::float AS now
    FROM administrators a JOIN tenants t ON t.id = a.tenant_id
    LEFT JOIN administrator_totp m ON m.administrator_id = a.id
"""
WHO = """
    a.id AS administrator_id, a.name, a.tenant_id, t.name AS tenant_name, t.blocked AS tenant_blocked,
    NOT a.blocked AS usable, a.must_change_password,
    CASE a.language WHEN 'default' THEN t.language ELSE a.language END AS language,
    coalesce(a.page_size, t.page_size) AS page_size
"""
GOOD = """
    s.used_at > now() - make_interval(secs => %(idle)s) AND s.created_at > now() - make_interval(secs => %(absolute)s)
"""


@implementer(ILogins)
@frozen
class Logins:
    """L{ILogins} over PostgreSQL."""

    db: IDatabase

    async def account(self, tenant: str, name: str, multitenant: bool) -> Account | None:
        if multitenant:
            where = "lower(t.name) = lower(btrim(%(tenant)s))"
        else:
            where = (
                f"t.id > {SUPERTENANT} AND (lower(t.name) = lower(btrim(%(tenant)s)) OR btrim(%(tenant)s) = ''"
                f" AND (SELECT count(*) FROM tenants WHERE id > {SUPERTENANT}) = 1)"
            )
        row = await self.db.fetch_one(
            f"{ACCOUNT} WHERE lower(a.name) = lower(btrim(%(name)s)) AND {where}", {"tenant": tenant, "name": name}
        )
        return None if row is None else account_of(row)

    async def account_of(self, administrator_id: int) -> Account | None:
        row = await self.db.fetch_one(f"{ACCOUNT} WHERE a.id = %s", (administrator_id,))
        return None if row is None else account_of(row)

    async def session(self, session_hash: bytes, lifetime: Lifetime) -> Known | None:
        row = await self.db.fetch_one(
            f"SELECT {WHO}, NOT ({GOOD}) AS expired, s.used_at < now() - {TOUCHED} AS stale,"
            " s.authenticated_at > now() - make_interval(secs => %(fresh)s) AS fresh,"
            " s.created_at + make_interval(secs => %(absolute)s) AS ends_at"
            " FROM administrator_sessions s JOIN administrators a ON a.id = s.administrator_id"
            " JOIN tenants t ON t.id = a.tenant_id WHERE s.hash = %(hash)s",
            {"hash": session_hash, **seconds(lifetime)},
        )
        return None if row is None else Known(**row)

    async def token(self, token_hash: bytes) -> Known | None:
        row = await self.db.fetch_one(
            f"SELECT {WHO}, s.expires_at <= now() AS expired, s.scopes, s.expires_at AS ends_at,"
            f" coalesce(s.used_at < now() - {TOUCHED}, true) AS stale"
            " FROM administrator_tokens s JOIN administrators a ON a.id = s.administrator_id"
            " JOIN tenants t ON t.id = a.tenant_id WHERE s.hash = %s",
            (token_hash,),
        )
        return None if row is None else Known(**row)

    async def touch(self, some_hash: bytes) -> None:
        await self.db.execute(
            "WITH token AS (UPDATE administrator_tokens SET used_at = now() WHERE hash = %(hash)s)"
            f" UPDATE administrator_sessions SET used_at = now() WHERE hash = %(hash)s AND used_at < now() - {TOUCHED}",
            {"hash": some_hash},
        )

    async def open(self, account: Account, new: NewSession, lifetime: Lifetime, tx: ITransaction) -> None:
        # Of several logins at a time, none waits for another that clears up.
        await tx.execute(
            "DELETE FROM administrator_sessions WHERE hash IN (SELECT hash FROM administrator_sessions s"
            f" WHERE NOT ({GOOD}) LIMIT 100 FOR UPDATE SKIP LOCKED)",
            seconds(lifetime),
        )
        await tx.execute("SELECT FROM administrators WHERE id = %s FOR UPDATE", (account.administrator_id,))
        await tx.execute(
            "DELETE FROM administrator_sessions WHERE hash IN (SELECT hash FROM administrator_sessions"
            " WHERE administrator_id = %s ORDER BY used_at DESC OFFSET %s)",
            (account.administrator_id, MOST_SESSIONS - 1),
        )
        await tx.execute(
            "INSERT INTO administrator_sessions (hash, administrator_id, client_address, client)"
            " VALUES (%s, %s, %s, %s)",
            (new.hash, account.administrator_id, new.client_address, new.client),
        )

    async def renew(self, old: bytes, new: bytes, tx: ITransaction) -> bool:
        renewed = await tx.execute(
            "UPDATE administrator_sessions SET hash = %s, used_at = now(), authenticated_at = now() WHERE hash = %s",
            (new, old),
        )
        return bool(renewed)

    async def close(
        self, administrator_id: int, tx: ITransaction, only: bytes | None = None, but: bytes | None = None
    ) -> int:
        return await tx.execute(
            "DELETE FROM administrator_sessions WHERE administrator_id = %s"
            " AND (%s::bytea IS NULL OR hash = %s) AND hash IS DISTINCT FROM %s",
            (administrator_id, only, only, but),
        )

    async def forget(self, session_hash: bytes, tx: ITransaction) -> None:
        await tx.execute("DELETE FROM administrator_sessions WHERE hash = %s", (session_hash,))

    async def sessions(self, administrator_id: int, lifetime: Lifetime) -> Sequence[Row]:
        return await self.db.fetch(
            "SELECT encode(hash, 'hex') AS hash, created_at, used_at, authenticated_at, client_address, client"
            f" FROM administrator_sessions s WHERE administrator_id = %(of)s AND {GOOD} ORDER BY created_at DESC, hash",
            {"of": administrator_id, **seconds(lifetime)},
        )

    async def set_password(self, account: Account, new: str, tx: ITransaction, keep: bytes | None = None) -> bool:
        await tx.execute("SELECT set_config('qvd.kept_session', %s, true)", (keep.hex() if keep else "",))
        changed = await tx.execute(
            "UPDATE administrators SET password = %s, must_change_password = false, password_expires_at = NULL"
            " WHERE id = %s AND password = %s",
            (new, account.administrator_id, account.password.reveal()),
        )
        return bool(changed)

    async def rehash(self, account: Account, new: str, tx: ITransaction) -> None:
        await tx.execute(
            "UPDATE administrators SET password = %s WHERE id = %s AND password = %s",
            (new, account.administrator_id, account.password.reveal()),
        )

    async def profile(self, administrator_id: int, tx: ITransaction | None = None) -> Row | None:
        return await (tx or self.db).fetch_one(
            "SELECT a.id, a.name, a.tenant_id, t.name AS tenant_name, a.language, a.page_size, a.description,"
            " a.time_zone, a.theme, a.created_at, a.must_change_password,"
            " EXISTS (SELECT FROM administrator_totp m WHERE m.administrator_id = a.id AND m.confirmed_at IS NOT NULL)"
            " AS totp FROM administrators a JOIN tenants t ON t.id = a.tenant_id WHERE a.id = %s",
            (administrator_id,),
        )

    async def set_profile(self, administrator_id: int, values: Mapping[str, Any], tx: ITransaction) -> None:
        columns = [name for name in PROFILE if name in values]
        if columns:
            await tx.execute(
                f"UPDATE administrators SET {', '.join(f'{name} = %({name})s' for name in columns)} WHERE id = %(id)s",
                {**values, "id": administrator_id},
            )

    async def tokens(self, administrator_id: int) -> Sequence[Row]:
        return await self.db.fetch(
            "SELECT id, name, scopes, created_at, expires_at, used_at FROM administrator_tokens"
            " WHERE administrator_id = %s ORDER BY id",
            (administrator_id,),
        )

    async def add_token(
        self, administrator_id: int, token_hash: bytes, values: Mapping[str, Any], tx: ITransaction
    ) -> Row | None:
        await tx.execute("SELECT FROM administrators WHERE id = %s FOR UPDATE", (administrator_id,))
        return await tx.fetch_one(
            "INSERT INTO administrator_tokens (administrator_id, hash, name, scopes, expires_at)"
            " SELECT %(of)s, %(hash)s, %(name)s, %(scopes)s, %(expires_at)s"
            " WHERE (SELECT count(*) FROM administrator_tokens WHERE administrator_id = %(of)s) < %(most)s"
            " RETURNING id, name, scopes, created_at, expires_at, used_at",
            {"of": administrator_id, "hash": token_hash, "most": MOST_TOKENS, **values},
        )

    async def drop_token(self, administrator_id: int, token_id: int, tx: ITransaction) -> Row | None:
        return await tx.fetch_one(
            "DELETE FROM administrator_tokens WHERE administrator_id = %s AND id = %s"
            " RETURNING id, name, scopes, created_at, expires_at, used_at",
            (administrator_id, token_id),
        )

    async def drop_tokens(self, administrator_id: int, tx: ITransaction) -> Sequence[Row]:
        return await tx.fetch(
            "DELETE FROM administrator_tokens WHERE administrator_id = %s RETURNING id, name", (administrator_id,)
        )

    async def expire_password(self, administrator_id: int, tx: ITransaction) -> bool:
        row = await tx.fetch_one(
            "SELECT must_change_password AS due FROM administrators WHERE id = %s FOR NO KEY UPDATE",
            (administrator_id,),
        )
        await tx.execute("UPDATE administrators SET must_change_password = true WHERE id = %s", (administrator_id,))
        return bool(row and row["due"])


def account_of(row: Row) -> Account:
    """A row of C{ACCOUNT}."""
    totp = None
    if row["secret"] is not None:
        totp = Totp(
            secret=Secret(row["secret"]),
            confirmed=row["confirmed"],
            last_counter=row["last_counter"],
            now=row["now"],
        )
    return Account(
        administrator_id=row["id"],
        name=row["name"],
        tenant_id=row["tenant_id"],
        tenant_name=row["tenant_name"],
        tenant_blocked=row["tenant_blocked"],
        usable=row["usable"],
        password=Secret(row["password"]),
        totp=totp,
    )


def seconds(lifetime: Lifetime) -> dict[str, int]:
    """As parameters of C{GOOD}."""
    return {"idle": lifetime.idle, "absolute": lifetime.absolute, "fresh": lifetime.fresh}
