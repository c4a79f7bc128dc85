# -*- test-case-name: tests.admin.test_adminlogins -*-
"""
How other administrators log in: their sessions, tokens and second factors, and a password that is to be replaced.

Nobody reaches one who may do more than they do, not even to look: where somebody sits, and what their programs may do,
is of use to whoever wants to be them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.grants import check_administrator
from qvd.admin.login.auth import ports_of
from qvd.admin.login.mfa import Factors
from qvd.admin.login.tokens import ApiToken, ApiTokens
from qvd.admin.login.verify import check_not_oneself_by_token
from qvd.admin.problems import not_found
from qvd.interfaces import ITransaction
from qvd.model.declared import Values

HASH = re.compile(r"[0-9a-f]{64}")
SESSIONS, TOKENS = acl("session.manage.administrators"), acl("token.manage.")
PATH = "/administrators/{id}"
Work = Callable[[Call, ITransaction, Values], Awaitable[Subject]]


class TheirSession(Struct, kw_only=True):
    """One of an administrator's sessions.

    @ivar hash: tells it from others; no secret.
    """

    hash: str
    created_at: datetime
    used_at: datetime
    authenticated_at: datetime
    client_address: str
    client: str


class TheirSessions(Struct):
    """All of them."""

    items: list[TheirSession]


class AdministratorLogins:
    """The operations. Whoever loses a session, a token or a password is refused from the next call on."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self.administrators = peers["administrators"]

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        return [*self._of_sessions(), *self._of_tokens(), *self._of_proofs()]

    def _of_sessions(self) -> Sequence[Endpoint]:
        common: dict[str, Any] = {"need": SESSIONS, "tag": "administrators"}
        return [
            Endpoint(
                method="GET",
                path=f"{PATH}/sessions",
                action="administrator.sessions",
                handler=self.read_sessions,
                summary="Administrators: the sessions of one",
                answers={200: TheirSessions},
                **common,
            ),
            Endpoint(
                method="DELETE",
                path=f"{PATH}/sessions",
                action="administrator.close-sessions",
                handler=self.changing(close_sessions),
                summary="Administrators: end all sessions of one",
                **common,
            ),
            Endpoint(
                method="DELETE",
                path=f"{PATH}/sessions/{{hash}}",
                action="administrator.close-session",
                handler=self.changing(close_session),
                summary="Administrators: end a session of one",
                **common,
            ),
        ]

    def _of_tokens(self) -> Sequence[Endpoint]:
        common: dict[str, Any] = {"need": TOKENS, "tag": "administrators"}
        return [
            Endpoint(
                method="GET",
                path=f"{PATH}/tokens",
                action="administrator.tokens",
                handler=self.read_tokens,
                summary="Administrators: the tokens of one",
                answers={200: ApiTokens},
                **common,
            ),
            Endpoint(
                method="DELETE",
                path=f"{PATH}/tokens",
                action="administrator.delete-tokens",
                handler=self.changing(drop_tokens),
                summary="Administrators: take all tokens of one away",
                **common,
            ),
            Endpoint(
                method="DELETE",
                path=f"{PATH}/tokens/{{token_id}}",
                action="administrator.delete-token",
                handler=self.changing(drop_token),
                summary="Administrators: take a token of one away",
                **common,
            ),
        ]

    def _of_proofs(self) -> Sequence[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path=f"{PATH}/mfa",
                action="administrator.mfa",
                need=SESSIONS,
                handler=self.read_mfa,
                summary="Administrators: second factors that one uses",
                answers={200: Factors},
                tag="administrators",
            ),
            Endpoint(
                method="DELETE",
                path=f"{PATH}/mfa",
                action="administrator.delete-mfa",
                need=SESSIONS,
                handler=self.changing(drop_factors),
                summary="Administrators: do without the second factor of one, who has lost it; their sessions end",
                dangerous=True,
                tag="administrators",
            ),
            Endpoint(
                method="POST",
                path=f"{PATH}/password/expire",
                action="administrator.expire-password",
                need=acl("administrator.update.password"),
                handler=self.changing(expire_password),
                summary="Administrators: have one choose another password before anything else",
                dangerous=True,
                tag="administrators",
            ),
        ]

    async def reached(self, call: Call) -> int:
        """Number of the administrator that a call is about.

        @raise Problem: there is none in the caller's scope, or it may do more than the caller.
        """
        row = await self.administrators.find(call, call.number())
        await check_administrator(call, None, row["id"], row["tenant_id"])
        return int(row["id"])

    async def read_sessions(self, call: Call) -> Answer:
        of, ports = await self.reached(call), ports_of(call)
        rows = await ports.logins.sessions(of, await ports.policy.lifetime())
        return Answer(200, TheirSessions([TheirSession(**row) for row in rows]))

    async def read_tokens(self, call: Call) -> Answer:
        of = await self.reached(call)
        return Answer(200, ApiTokens([ApiToken(**row) for row in await ports_of(call).logins.tokens(of)]))

    async def read_mfa(self, call: Call) -> Answer:
        of, ports = await self.reached(call), ports_of(call)
        account = await ports.logins.account_of(of)
        used = account is not None and account.totp is not None and account.totp.confirmed
        return Answer(200, Factors(totp=used, recovery_codes_left=await ports.second_factors.recovery_codes_left(of)))

    def changing(self, change: Work) -> Callable[[Call], Awaitable[Answer]]:
        """An operation that changes one whom the caller reaches.

        @param change: does it, and says what it was about.
        """

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await self.administrators.locked(call, tx)
                await check_administrator(call, tx, current["id"], current["tenant_id"])
                check_not_oneself_by_token(call, current["id"])
                call.subject = await change(call, tx, current)
                return Answer(204)

            return await self.administrators.changing(call, work)

        return handle


def subject_of(current: Values, before: Mapping[str, Any], after: Mapping[str, Any]) -> Subject:
    """For the audit trail."""
    return Subject("administrator", current["id"], current["name"], current["tenant_id"], before, after)


async def close_sessions(call: Call, tx: ITransaction, current: Values) -> Subject:
    """End them all."""
    closed = await ports_of(call).logins.close(current["id"], tx)
    return subject_of(current, {"sessions": closed}, {"sessions": 0})


async def close_session(call: Call, tx: ITransaction, current: Values) -> Subject:
    """End one."""
    named = call.path["hash"]
    if not HASH.fullmatch(named) or not await ports_of(call).logins.close(current["id"], tx, only=bytes.fromhex(named)):
        raise not_found("session")
    return subject_of(current, {"session": named}, {"session": None})


async def drop_tokens(call: Call, tx: ITransaction, current: Values) -> Subject:
    """Take them all away."""
    gone = await ports_of(call).logins.drop_tokens(current["id"], tx)
    return subject_of(current, {"tokens": [row["name"] for row in gone]}, {"tokens": []})


async def drop_token(call: Call, tx: ITransaction, current: Values) -> Subject:
    """Take one away."""
    row = await ports_of(call).logins.drop_token(current["id"], call.number("token_id"), tx)
    if row is None:
        raise not_found("token")
    return Subject("token", row["id"], row["name"], current["tenant_id"], row, None)


async def drop_factors(call: Call, tx: ITransaction, current: Values) -> Subject:
    """Whoever finds the authenticator that was lost is not to go on with a session, either."""
    ports = ports_of(call)
    if not await ports.second_factors.drop(current["id"], tx):
        raise not_found("authenticator")
    await ports.logins.close(current["id"], tx)
    return subject_of(current, {"totp": True}, {"totp": False})


async def expire_password(call: Call, tx: ITransaction, current: Values) -> Subject:
    """The password lets them in once more, to replace it. Sessions and tokens go on after that, not before."""
    before = await ports_of(call).logins.expire_password(current["id"], tx)
    return subject_of(current, {"must_change_password": before}, {"must_change_password": True})
