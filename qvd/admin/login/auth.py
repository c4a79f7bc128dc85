# -*- test-case-name: tests.admin.test_login -*-
"""Log in, log out, and what the session is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from attrs import evolve
from msgspec import Meta, Struct

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import LOGGED_IN, PUBLIC, Endpoint
from qvd.admin.login.proofs import clear_cookie, csrf_of, digest, new_proof, read_cookie, set_cookie
from qvd.admin.login.verify import Verified, by_person, verifier
from qvd.admin.problems import Problem
from qvd.admin.schema import SECRET
from qvd.admin.services import LoginPorts
from qvd.interfaces import ITransaction
from qvd.interfaces.logins import Account, Known, NewSession
from qvd.model.declared import SUPERTENANT, Principal
from qvd.model.secret import Secret

TAG = "auth"
Name = Annotated[str, Meta(min_length=1, max_length=256, description="Without the tenant")]
Password = Annotated[str, Meta(min_length=1, max_length=1024, extra_json_schema=SECRET)]
Code = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="Of an authenticator, or a recovery code", extra_json_schema=SECRET),
]


class Login(Struct, forbid_unknown_fields=True, kw_only=True):
    """Who logs in."""

    name: Name
    password: Password
    tenant: Annotated[str, Meta(max_length=256, description="Its name; * for those over all tenants")] = ""
    otp: Code | None = None


class Reauthentication(Struct, forbid_unknown_fields=True, kw_only=True):
    """The password again."""

    password: Password
    otp: Code | None = None


class LoginSession(Struct, kw_only=True):
    """A session as its owner sees it.

    @ivar csrf_token: sent as C{X-CSRF-Token}; L{None}: a token of the API calls, which needs none.
    @ivar fresh: the password was given lately.
    """

    administrator_id: int
    name: str
    tenant_id: int
    tenant_name: str
    superadmin: bool
    multitenant: bool
    language: str
    page_size: int
    csrf_token: str | None
    must_change_password: bool
    fresh: bool
    idle_seconds: int
    ends_at: datetime


def ports_of(call: Call) -> LoginPorts:
    """What logins work with."""
    ports: LoginPorts = call.services.login
    return ports


async def log_in(call: Call) -> Answer:
    """Open a session."""
    body, ports = call.body, ports_of(call)
    call.services.gate.check_site(call)
    multitenant = await ports.policy.multitenant()
    # What the database cannot hold as a text cannot be anybody's name.
    printable = f"{body.tenant}{body.name}".isprintable()
    account = await ports.logins.account(body.tenant, body.name, multitenant) if printable else None
    call.subject = Subject("administrator", None, body.name[:64])
    if account is not None:
        call.subject = subject_of(account)
    password = Secret(body.password)
    # One account has one place where failures count, however it is spelt.
    tenant, name = (account.tenant_name, account.name) if account is not None else (body.tenant, body.name)
    verified = await verifier(call).verify(call, account, tenant, name, password, body.otp)
    return await opened(call, verified, multitenant)


def subject_of(account: Account) -> Subject:
    """For the audit trail."""
    return Subject("administrator", account.administrator_id, account.name, account.tenant_id)


async def opened(call: Call, verified: Verified, multitenant: bool) -> Answer:
    """A new session, in the place of the one that the client had."""
    ports, account = ports_of(call), verified.account
    lifetime = await ports.policy.lifetime()
    proof, old = new_proof(), read_cookie(call.headers.get("cookie", ""))
    new = NewSession(digest(proof), call.client_address, client_of(call))

    async def work(tx: ITransaction) -> None:
        await verified.consume(tx)
        if old is not None:
            await ports.logins.forget(digest(old), tx)
        await ports.logins.open(account, new, lifetime, tx)
        # Only now is it known who calls.
        call.caller = provisional(account, multitenant)
        call.subject = subject_of(account)

    await call.change(work)
    return Answer(200, await shown(call, proof), {"Set-Cookie": set_cookie(proof)})


def provisional(account: Account, multitenant: bool) -> Principal:
    """Who has just logged in, for the audit trail."""
    return Principal(
        administrator_id=account.administrator_id,
        name=account.name,
        tenant_id=account.tenant_id,
        tenant_name=account.tenant_name,
        superadmin=multitenant and account.tenant_id == SUPERTENANT,
        multitenant=multitenant,
        acls=frozenset(),
        session="",
    )


def client_of(call: Call) -> str:
    """Which program, for the list of sessions."""
    agent = call.headers.get("user-agent", "")[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in agent)


async def shown(call: Call, proof: Secret) -> LoginSession:
    """The session that C{proof} is of."""
    ports = ports_of(call)
    lifetime = await ports.policy.lifetime()
    known = await ports.logins.session(digest(proof), lifetime)
    if known is None:
        raise Problem("session-expired", "The session is over: log in again")
    return document(known, lifetime.idle, await ports.policy.multitenant(), csrf_of(proof))


def document(known: Known, idle: int, multitenant: bool, csrf: str | None) -> LoginSession:
    return LoginSession(
        administrator_id=known.administrator_id,
        name=known.name,
        tenant_id=known.tenant_id,
        tenant_name=known.tenant_name,
        superadmin=multitenant and known.tenant_id == SUPERTENANT,
        multitenant=multitenant,
        language=known.language,
        page_size=known.page_size,
        csrf_token=csrf,
        must_change_password=known.must_change_password,
        fresh=known.fresh,
        idle_seconds=idle,
        ends_at=known.ends_at,
    )


async def log_out(call: Call) -> Answer:
    """End the session."""
    by_person(call)

    async def work(tx: ITransaction) -> Answer:
        await ports_of(call).logins.forget(bytes.fromhex(call.principal.session), tx)
        call.subject = own_subject(call)
        return Answer(204, None, {"Set-Cookie": clear_cookie()})

    return await call.change(work)


def own_subject(call: Call, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None) -> Subject:
    """The caller's own account, for the audit trail."""
    caller = call.principal
    return Subject("administrator", caller.administrator_id, caller.name, caller.tenant_id, before, after)


async def read_session(call: Call) -> Answer:
    """What the session is, or the token."""
    ports = ports_of(call)
    if not call.principal.by_token:
        cookie = read_cookie(call.headers.get("cookie", ""))
        if cookie is None:
            raise Problem("session-expired", "The session is over: log in again")
        return Answer(200, await shown(call, cookie))
    known = await ports.logins.token(bytes.fromhex(call.principal.session.removeprefix("token:")))
    if known is None:
        raise Problem("session-expired", "The token is over")
    return Answer(200, document(evolve(known, fresh=call.principal.fresh), 0, call.principal.multitenant, None))


async def reauthenticate(call: Call) -> Answer:
    """The password again, for what is dangerous. The session gets another cookie."""
    by_person(call)
    ports, caller = ports_of(call), call.principal
    account = await ports.logins.account_of(caller.administrator_id)
    verified = await verifier(call).verify(
        call, account, caller.tenant_name, caller.name, Secret(call.body.password), call.body.otp
    )
    proof = new_proof()

    async def work(tx: ITransaction) -> None:
        await verified.consume(tx)
        if not await ports.logins.renew(bytes.fromhex(caller.session), digest(proof), tx):
            raise Problem("session-expired", "The session is over: log in again")
        call.caller = evolve(caller, session=digest(proof).hex())
        call.subject = own_subject(call)

    await call.change(work)
    return Answer(200, await shown(call, proof), {"Set-Cookie": set_cookie(proof)})


def endpoints() -> Sequence[Endpoint]:
    """Of logins."""
    return [
        Endpoint(
            method="POST",
            path="/auth/login",
            action="auth.login",
            need=PUBLIC,
            handler=log_in,
            summary="Log in: opens a session",
            body=Login,
            answers={200: LoginSession},
            tag=TAG,
        ),
        Endpoint(
            method="POST",
            path="/auth/logout",
            action="auth.logout",
            need=LOGGED_IN,
            handler=log_out,
            summary="Log out: ends the session",
            early=True,
            tag=TAG,
        ),
        Endpoint(
            method="GET",
            path="/auth/session",
            action="auth.session",
            need=LOGGED_IN,
            handler=read_session,
            summary="Who is logged in, and what the session is",
            answers={200: LoginSession},
            early=True,
            tag=TAG,
        ),
        Endpoint(
            method="POST",
            path="/auth/reauthenticate",
            action="auth.reauthenticate",
            need=LOGGED_IN,
            handler=reauthenticate,
            summary="Give the password again, for what is dangerous",
            body=Reauthentication,
            answers={200: LoginSession},
            told_once=True,
            early=True,
            tag=TAG,
        ),
    ]
