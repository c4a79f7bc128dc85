# -*- test-case-name: tests.admin.test_tokens -*-
"""Tokens: what programs call with, for an administrator, for a while and for some permissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import LOGGED_IN, Endpoint
from qvd.admin.login.auth import ports_of
from qvd.admin.login.proofs import TOKEN_MARK, digest, new_proof
from qvd.admin.login.verify import by_person
from qvd.admin.problems import Fault, Problem, not_found
from qvd.interfaces import ITransaction
from qvd.interfaces.logins import DANGEROUS
from qvd.model.errors import Refused

TAG = "me"
LONGEST = timedelta(days=366)
Scope = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]*\*?$", min_length=1, max_length=100)]


class TokenCreation(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a new one is for."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
    scopes: Annotated[
        list[Scope],
        Meta(
            min_length=1,
            max_length=400,
            description="ACLs, or how they begin, with a star; it has no others. dangerous: what else needs the"
            " password again is done without it, for as long as api.token.dangerous says at most",
        ),
    ]
    expires_at: Annotated[datetime, Meta(tz=True)]


class ApiToken(Struct, kw_only=True, omit_defaults=True):
    """A token.

    @ivar token: itself, in the answer that makes it and never again.
    """

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    token: str | UnsetType = UNSET


class ApiTokens(Struct):
    """All of them."""

    items: list[ApiToken]


async def read_tokens(call: Call) -> Answer:
    """The own ones."""
    rows = await ports_of(call).logins.tokens(call.principal.administrator_id)
    return Answer(200, ApiTokens([ApiToken(**row) for row in rows]))


async def make_token(call: Call) -> Answer:
    """A new one."""
    by_person(call)
    body, now = call.body, datetime.now(UTC)
    if not now < body.expires_at <= now + LONGEST:
        raise wrong_end(f"must be in the future, and within {LONGEST.days} days")
    if DANGEROUS in body.scopes:
        await check_dangerous(call, body.expires_at - now)
    proof = new_proof(TOKEN_MARK)
    values = {"name": body.name, "scopes": body.scopes, "expires_at": body.expires_at}

    async def work(tx: ITransaction) -> Answer:
        of = call.principal.administrator_id
        row = await ports_of(call).logins.add_token(of, digest(proof), values, tx)
        if row is None:
            raise Problem("conflict", "There are too many tokens: delete some")
        call.subject = subject_of(call, row, None, row)
        made = structs.replace(ApiToken(**row), token=proof.reveal())
        return Answer(201, made, {"Location": f"/api/v1/me/tokens/{row['id']}"})

    try:
        return await call.change(work)
    except Refused as error:
        raise Problem("already-exists", "There is a token of that name") from error


def wrong_end(reason: str) -> Problem:
    """Of what lasts too long."""
    return Problem("invalid-value", f"The time of expiry {reason}", [Fault("/expires_at", reason)])


async def check_dangerous(call: Call, lasting: timedelta) -> None:
    """@raise Problem: a token that does what is dangerous would last too long, or there shall be none."""
    most = await ports_of(call).policy.dangerous_seconds()
    if most == 0:
        reason = "is given to no token: see api.token.dangerous"
        raise Problem("invalid-value", f"The scope {DANGEROUS} {reason}", [Fault("/scopes", reason)])
    if lasting > timedelta(seconds=most):
        raise wrong_end(f"must be within {most} seconds for the scope {DANGEROUS}")


def subject_of(
    call: Call, row: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> Subject:
    """For the audit trail."""
    return Subject("token", row["id"], row["name"], call.principal.tenant_id, before, after)


async def drop_token(call: Call) -> Answer:
    """Take one away."""

    async def work(tx: ITransaction) -> Answer:
        row = await ports_of(call).logins.drop_token(call.principal.administrator_id, call.number(), tx)
        if row is None:
            raise not_found("token")
        call.subject = subject_of(call, row, row, None)
        return Answer(204)

    by_person(call)
    return await call.change(work)


def endpoints() -> Sequence[Endpoint]:
    """Of the own tokens."""
    return [
        Endpoint(
            method="GET",
            path="/me/tokens",
            action="me.tokens",
            need=LOGGED_IN,
            handler=read_tokens,
            summary="The own tokens",
            answers={200: ApiTokens},
            tag=TAG,
        ),
        Endpoint(
            method="POST",
            path="/me/tokens",
            action="me.create-token",
            need=LOGGED_IN,
            handler=make_token,
            summary="Make a token, which is told once",
            body=TokenCreation,
            answers={201: ApiToken},
            dangerous=True,
            told_once=True,
            tag=TAG,
        ),
        Endpoint(
            method="DELETE",
            path="/me/tokens/{id}",
            action="me.delete-token",
            need=LOGGED_IN,
            handler=drop_token,
            summary="Take one of the own tokens away",
            tag=TAG,
        ),
    ]
