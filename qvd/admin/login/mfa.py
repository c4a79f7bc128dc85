# -*- test-case-name: tests.admin.test_mfa -*-
"""The own second factor: an authenticator with one-time codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import LOGGED_IN, Endpoint
from qvd.admin.login.auth import own_subject, ports_of
from qvd.admin.login.codes import counter_of, new_recovery_codes, new_secret, recovery_digest, uri_of
from qvd.admin.login.verify import begin, by_person, places
from qvd.admin.problems import Fault, Problem, not_found
from qvd.interfaces import ITransaction
from qvd.interfaces.logins import Account

TAG = "me"


class Factors(Struct, kw_only=True):
    """Second factors in use."""

    totp: bool
    recovery_codes_left: int


class Enrolment(Struct, kw_only=True):
    """What an authenticator is to know. Told once.

    @ivar uri: the same, for a picture that it reads.
    """

    secret: str
    uri: str


class Confirmation(Struct, forbid_unknown_fields=True, kw_only=True):
    """What it shows."""

    otp: Annotated[str, Meta(pattern=r"^[0-9]{6}$", extra_json_schema={"format": "password"})]


class RecoveryCodes(Struct, kw_only=True):
    """Each is good once, in the place of a code. Told once."""

    recovery_codes: list[str]


async def own_account(call: Call) -> Account:
    """The caller's."""
    account = await ports_of(call).logins.account_of(call.principal.administrator_id)
    if account is None:
        raise not_found("administrator")
    return account


async def read_mfa(call: Call) -> Answer:
    """Whether there is one."""
    account = await own_account(call)
    left = await ports_of(call).second_factors.recovery_codes_left(account.administrator_id)
    used = account.totp is not None and account.totp.confirmed
    return Answer(200, Factors(totp=used, recovery_codes_left=left))


async def enrol(call: Call) -> Answer:
    """A secret for an authenticator. It counts when it is confirmed."""
    by_person(call)
    secret, caller = new_secret(), call.principal

    async def work(tx: ITransaction) -> Answer:
        if not await ports_of(call).second_factors.enrol(caller.administrator_id, secret, tx):
            raise Problem("conflict", "An authenticator is in use: delete it first")
        call.subject = own_subject(call)
        return Answer(200, Enrolment(secret=secret.reveal(), uri=uri_of(secret, f"{caller.name}@{caller.tenant_name}")))

    return await call.change(work)


async def confirm(call: Call) -> Answer:
    """From now on it is needed."""
    by_person(call)
    ports, account = ports_of(call), await own_account(call)
    totp = account.totp
    if totp is None or totp.confirmed:
        raise Problem("conflict", "There is nothing to confirm")
    attempt = await begin(ports, await places(ports, account.tenant_name, account.name, call.client_address))
    counter = counter_of(totp.secret, call.body.otp, totp.now, totp.last_counter)
    if counter is None:
        raise Problem("invalid-value", "The code is wrong: look at the clock", [Fault("/otp", "is wrong")])
    codes = new_recovery_codes()
    hashes = [found for code in codes if (found := recovery_digest(code.reveal())) is not None]

    async def work(tx: ITransaction) -> Answer:
        if not await ports.second_factors.confirm(account.administrator_id, counter, hashes, tx):
            raise Problem("conflict", "There is nothing to confirm")
        await ports.attempts.succeeded(attempt, tx)
        # Sessions that were opened without it may be somebody else's.
        await ports.logins.close(account.administrator_id, tx, but=bytes.fromhex(call.principal.session))
        call.subject = own_subject(call, {"totp": False}, {"totp": True})
        return Answer(200, RecoveryCodes(recovery_codes=[code.reveal() for code in codes]))

    return await call.change(work)


async def drop(call: Call) -> Answer:
    """It is not needed any more."""
    by_person(call)

    async def work(tx: ITransaction) -> Answer:
        if not await ports_of(call).second_factors.drop(call.principal.administrator_id, tx):
            raise not_found("authenticator")
        call.subject = own_subject(call, {"totp": True}, {"totp": False})
        return Answer(204)

    return await call.change(work)


def endpoints() -> Sequence[Endpoint]:
    """Of the own second factor."""
    return [
        Endpoint(
            method="GET",
            path="/me/mfa",
            action="me.mfa",
            need=LOGGED_IN,
            handler=read_mfa,
            summary="Second factors in use",
            answers={200: Factors},
            tag=TAG,
        ),
        Endpoint(
            method="POST",
            path="/me/mfa/totp",
            action="me.enrol-totp",
            need=LOGGED_IN,
            handler=enrol,
            summary="A secret for an authenticator, to be confirmed",
            answers={200: Enrolment},
            dangerous=True,
            told_once=True,
            tag=TAG,
        ),
        Endpoint(
            method="POST",
            path="/me/mfa/totp/confirm",
            action="me.confirm-totp",
            need=LOGGED_IN,
            handler=confirm,
            summary="Confirm the authenticator by a code of it",
            body=Confirmation,
            answers={200: RecoveryCodes},
            dangerous=True,
            told_once=True,
            tag=TAG,
        ),
        Endpoint(
            method="DELETE",
            path="/me/mfa/totp",
            action="me.delete-totp",
            need=LOGGED_IN,
            handler=drop,
            summary="Do without an authenticator",
            dangerous=True,
            tag=TAG,
        ),
    ]
