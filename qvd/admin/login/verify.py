# -*- test-case-name: tests.admin.test_login,tests.admin.test_throttle -*-
"""Whether somebody is who they say: by password, and by a second factor where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from qvd.admin.call import Call
from qvd.admin.login.codes import counter_of, recovery_digest
from qvd.admin.login.gate import CHALLENGE
from qvd.admin.login.passwords import is_legacy, is_right
from qvd.admin.login.throttle import buckets_of, too_many
from qvd.admin.problems import Problem
from qvd.admin.services import LoginPorts
from qvd.interfaces import IHasher, ITransaction
from qvd.interfaces.logins import Account, Attempt, Bucket
from qvd.model.secret import Secret


@frozen
class Factor:
    """What the second factor is proven with: a code's step, or a recovery code's hash."""

    counter: int | None = None
    recovery: bytes | None = None


@frozen
class Verified:
    """Who it is. What was shown is used up in the transaction of what it was shown for.

    @ivar rehashed: a new hash in the place of one of QVD 4.2.
    """

    ports: LoginPorts
    account: Account
    factor: Factor | None
    attempt: Attempt
    rehashed: str | None

    async def consume(self, tx: ITransaction) -> None:
        """@raise Problem: the code was used meanwhile."""
        of = self.account.administrator_id
        if self.factor is not None:
            factors = self.ports.second_factors
            if self.factor.counter is not None:
                good = await factors.use(of, self.factor.counter, tx)
            else:
                good = await factors.use_recovery(of, self.factor.recovery or b"", tx)
            if not good:
                raise wrong()
        if self.rehashed is not None:
            await self.ports.logins.rehash(self.account, self.rehashed, tx)
        await self.ports.attempts.succeeded(self.attempt, tx)


@frozen
class Verifier:
    """Asks for proof. Each attempt counts as a failure until it is proven to be none."""

    ports: LoginPorts
    hasher: IHasher

    async def verify(
        self, call: Call, account: Account | None, tenant: str, name: str, password: Secret, otp: str | None
    ) -> Verified:
        """All refusals for wrong credentials look and last the same.

        @param account: L{None}: there is none of that name.
        @raise Problem: they are wrong, or too many were.
        """
        attempt = await begin(self.ports, await places(self.ports, tenant, name, call.client_address))
        stored = account.password if account is not None else None
        right = await is_right(self.hasher, stored, password, await self.ports.policy.legacy_salt())
        if account is None or not right or not account.usable:
            raise wrong()
        if account.tenant_blocked:
            raise Problem("tenant-blocked", "The tenant is blocked")
        factor = await self._factor(account, otp, attempt)
        rehashed = None
        if is_legacy(account.password.reveal()):
            rehashed = await self.hasher.hash(password.reveal())
        return Verified(self.ports, account, factor, attempt, rehashed)

    async def _factor(self, account: Account, otp: str | None, attempt: Attempt) -> Factor | None:
        """What is shown as the second factor; L{None}: none is needed."""
        if account.totp is None or not account.totp.confirmed:
            return None
        if not otp:
            await self.ports.attempts.succeeded(attempt, proven=False)
            raise Problem("otp-required", "Send the code that your authenticator shows as otp", headers=CHALLENGE)
        recovery = recovery_digest(otp)
        if recovery is not None:
            return Factor(recovery=recovery)
        counter = counter_of(account.totp.secret, otp.strip(), account.totp.now, account.totp.last_counter)
        if counter is None:
            raise wrong()
        return Factor(counter=counter)


async def places(ports: LoginPorts, tenant: str, name: str, address: str) -> Sequence[Bucket]:
    """Where an attempt counts. Where there is a single tenant, it need not be named: failures of names that there are
    and of others count in one place, so that waits do not tell them apart."""
    return buckets_of(tenant if await ports.policy.multitenant() else "", name, address)


async def begin(ports: LoginPorts, buckets: Sequence[Bucket]) -> Attempt:
    """@raise Problem: too many failed."""
    attempt = await ports.attempts.begin(buckets)
    if attempt.wait:
        raise too_many(attempt.wait)
    return attempt


def wrong() -> Problem:
    """Does not say what is."""
    return Problem("invalid-credentials", "Tenant, name, password or code are wrong", headers=CHALLENGE)


def verifier(call: Call) -> Verifier:
    """With the services of a call."""
    return Verifier(call.services.login, call.services.hasher)


def by_person(call: Call) -> None:
    """@raise Problem: a token calls. It must not give itself more than it has."""
    if call.principal.by_token:
        raise Problem("forbidden", "Tokens may not do that: log in")


def check_not_oneself_by_token(call: Call, administrator_id: int) -> None:
    """A token ends some day, and has no more than its scopes: it must not make the account its own.

    @raise Problem: one does so.
    """
    if call.principal.by_token and administrator_id == call.principal.administrator_id:
        raise Problem("forbidden", "Tokens may not do that to the account that they belong to: log in")
