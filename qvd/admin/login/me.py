# -*- test-case-name: tests.admin.test_login_me -*-
"""What administrators see and change of their own accounts: profile, password, permissions, sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import LOGGED_IN, Endpoint, Parameter
from qvd.admin.login.auth import Code, Password, own_subject, ports_of
from qvd.admin.login.passwords import check_quality
from qvd.admin.login.proofs import clear_cookie
from qvd.admin.login.verify import by_person, verifier
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.schema import SECRET, given
from qvd.interfaces import ITransaction, Row
from qvd.model.secret import Secret

TAG = "me"
HASH = re.compile(r"[0-9a-f]{64}")


class Profile(Struct, kw_only=True):
    """One's own account.

    @ivar totp: a second factor is in use.
    """

    id: int
    name: str
    tenant_id: int
    tenant_name: str
    language: str
    page_size: int | None
    description: str
    time_zone: str
    theme: str
    created_at: datetime
    must_change_password: bool
    totp: bool


class ProfileChange(Struct, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of it: a merge patch."""

    language: Annotated[Literal["auto", "en", "es", "default"], Meta(description="Of the panel")] | UnsetType = UNSET
    page_size: Annotated[int, Meta(ge=1, le=500)] | UnsetType | None = UNSET
    description: Annotated[str, Meta(max_length=32768)] | UnsetType = UNSET
    time_zone: (
        Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$", description="As in the tz database")]
        | UnsetType
    ) = UNSET
    theme: Literal["auto", "light", "dark"] | UnsetType = UNSET


class PasswordChange(Struct, forbid_unknown_fields=True, kw_only=True):
    """@ivar current: the password up to now."""

    current: Password
    new: Annotated[str, Meta(max_length=1024, extra_json_schema=SECRET)]
    otp: Code | None = None


class Acls(Struct):
    """Names of the ACLs that the caller holds."""

    acls: list[str]


class OpenSession(Struct, kw_only=True):
    """One of the own sessions.

    @ivar hash: tells it from others; no secret.
    @ivar current: it is the one that calls.
    """

    hash: str
    created_at: datetime
    used_at: datetime
    authenticated_at: datetime
    client_address: str
    client: str
    current: bool


class OpenSessions(Struct):
    """All of them."""

    items: list[OpenSession]


async def profile_of(call: Call, tx: ITransaction | None = None) -> Row:
    """The caller's."""
    row = await ports_of(call).logins.profile(call.principal.administrator_id, tx)
    if row is None:
        raise not_found("administrator")
    return row


async def read_me(call: Call) -> Answer:
    """The own account."""
    return Answer(200, await profile_of(call))


async def change_me(call: Call) -> Answer:
    """Change it."""
    values = given(call.body)
    if "\0" in values.get("description", ""):
        raise Problem("invalid-value", "Texts cannot hold the character NUL")

    async def work(tx: ITransaction) -> Answer:
        before = await profile_of(call, tx)
        await ports_of(call).logins.set_profile(before["id"], values, tx)
        after = await profile_of(call, tx)
        call.subject = Subject("administrator", after["id"], after["name"], after["tenant_id"], before, after)
        return Answer(200, after)

    return await call.change(work)


async def change_password(call: Call) -> Answer:
    """Another password. All other sessions end."""
    by_person(call)
    body, caller, ports = call.body, call.principal, ports_of(call)
    new = Secret(body.new)
    check_quality(new, caller.name)
    if body.new == body.current:
        raise Problem("invalid-value", "The new password is the old one", [Fault("/new", "is the old one")])
    account = await ports.logins.account_of(caller.administrator_id)
    verified = await verifier(call).verify(
        call, account, caller.tenant_name, caller.name, Secret(body.current), body.otp
    )
    hashed = await call.services.hasher.hash(new.reveal())

    async def work(tx: ITransaction) -> Answer:
        await verified.consume(tx)
        own = bytes.fromhex(caller.session)
        if not await ports.logins.set_password(verified.account, hashed, tx, keep=own):
            raise Problem("conflict", "The password was changed meanwhile")
        before = {"must_change_password": caller.must_change_password}
        call.subject = own_subject(call, before, {"must_change_password": False})
        return Answer(204)

    return await call.change(work)


async def read_acls(call: Call) -> Answer:
    """What the caller may do."""
    return Answer(200, Acls(sorted(call.principal.acls)))


async def read_sessions(call: Call) -> Answer:
    """The own sessions."""
    ports = ports_of(call)
    rows = await ports.logins.sessions(call.principal.administrator_id, await ports.policy.lifetime())
    return Answer(
        200, OpenSessions([OpenSession(**row, current=row["hash"] == call.principal.session) for row in rows])
    )


async def close_session(call: Call) -> Answer:
    """End one of them."""
    by_person(call)
    named = call.path["hash"]
    if not HASH.fullmatch(named):
        raise not_found("session")
    own = named == call.principal.session

    async def work(tx: ITransaction) -> Answer:
        closed = await ports_of(call).logins.close(call.principal.administrator_id, tx, only=bytes.fromhex(named))
        if not closed:
            raise not_found("session")
        call.subject = own_subject(call, {"session": named}, {"session": None})
        return Answer(204, None, {"Set-Cookie": clear_cookie()} if own else {})

    return await call.change(work)


async def close_sessions(call: Call) -> Answer:
    """End all of them, or all others."""
    by_person(call)
    others = call.one("others", "false")
    if others not in ("true", "false"):
        raise Problem("invalid-filter", "The parameter others is true or false")
    keep = bytes.fromhex(call.principal.session) if others == "true" else None

    async def work(tx: ITransaction) -> Answer:
        closed = await ports_of(call).logins.close(call.principal.administrator_id, tx, but=keep)
        kept = 0 if keep is None else 1
        call.subject = own_subject(call, {"sessions": closed + kept}, {"sessions": kept})
        return Answer(204, None, {"Set-Cookie": clear_cookie()} if keep is None else {})

    return await call.change(work)


def endpoints() -> Sequence[Endpoint]:
    """Of the own account."""
    return [
        Endpoint(
            method="GET",
            path="/me",
            action="me.read",
            need=LOGGED_IN,
            handler=read_me,
            summary="The own account",
            answers={200: Profile},
            early=True,
            tag=TAG,
        ),
        Endpoint(
            method="PATCH",
            path="/me",
            action="me.update",
            need=LOGGED_IN,
            handler=change_me,
            summary="Change the own account",
            body=ProfileChange,
            media="application/merge-patch+json",
            answers={200: Profile},
            tag=TAG,
        ),
        Endpoint(
            method="PUT",
            path="/me/password",
            action="me.password",
            need=LOGGED_IN,
            handler=change_password,
            summary="Change the own password; other sessions end",
            body=PasswordChange,
            early=True,
            tag=TAG,
        ),
        Endpoint(
            method="GET",
            path="/me/acls",
            action="me.acls",
            need=LOGGED_IN,
            handler=read_acls,
            summary="Permissions that the caller holds",
            answers={200: Acls},
            tag=TAG,
        ),
        Endpoint(
            method="GET",
            path="/me/sessions",
            action="me.sessions",
            need=LOGGED_IN,
            handler=read_sessions,
            summary="The own sessions",
            answers={200: OpenSessions},
            tag=TAG,
        ),
        Endpoint(
            method="DELETE",
            path="/me/sessions",
            action="me.close-sessions",
            need=LOGGED_IN,
            handler=close_sessions,
            summary="End the own sessions, or all others",
            parameters=(Parameter("others", {"type": "boolean"}, "The one that calls goes on"),),
            tag=TAG,
        ),
        Endpoint(
            method="DELETE",
            path="/me/sessions/{hash}",
            action="me.close-session",
            need=LOGGED_IN,
            handler=close_session,
            summary="End one of the own sessions",
            tag=TAG,
        ),
    ]
