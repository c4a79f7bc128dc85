"""Ports: administrators who log in, what they then show, and how often they may fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from zope.interface import Interface

from qvd.interfaces.database import ITransaction, Row
from qvd.model.secret import Secret

DANGEROUS = "dangerous"
"""Scope of a token that may do what else needs the password again. No star stands for it."""


class ILoginPolicy(Interface):
    """What the configuration says about logins."""

    async def multitenant() -> bool:
        """Whether there are several tenants."""

    async def legacy_salt() -> str:
        """What QVD 4.2 put before passwords: its C{l7r.auth.plugin.default.salt}."""

    async def lifetime() -> Lifetime:
        """How long sessions last."""

    async def dangerous_seconds() -> int:
        """How long a token may last that may do what is dangerous; 0: there are none."""


@frozen
class Lifetime:
    """Of a session, in seconds.

    @ivar idle: without a call. C{absolute}: whatever happens. C{fresh}: after the password, for what is dangerous.
    """

    idle: int = 30 * 60
    absolute: int = 12 * 3600
    fresh: int = 5 * 60


@frozen(kw_only=True)
class Totp:
    """A second factor.

    @ivar last_counter: codes of that time and before are used up.
    @ivar now: seconds since 1970, by the database.
    """

    secret: Secret
    confirmed: bool
    last_counter: int
    now: float


@frozen(kw_only=True)
class Account:
    """Who wants to log in.

    @ivar usable: neither blocked nor with a one-time secret that is out of date.
    """

    administrator_id: int
    name: str
    tenant_id: int
    tenant_name: str
    tenant_blocked: bool
    usable: bool
    password: Secret
    totp: Totp | None


@frozen(kw_only=True)
class Known:
    """Whom a session or a token belongs to, as of now.

    @ivar expired: it is not good any more.
    @ivar stale: its last use should be written down.
    @ivar scopes: of a token; L{None}: it is a session.
    """

    administrator_id: int
    name: str
    tenant_id: int
    tenant_name: str
    language: str
    page_size: int
    usable: bool
    tenant_blocked: bool
    must_change_password: bool
    expired: bool
    stale: bool
    fresh: bool = False
    scopes: Sequence[str] | None = None
    ends_at: datetime


@frozen
class NewSession:
    """@ivar hash: SHA-256 of what the client keeps. C{client} is its C{User-Agent}."""

    hash: bytes
    client_address: str
    client: str


class ILogins(Interface):
    """Accounts of administrators, their sessions, tokens and second factors."""

    async def account(tenant: str, name: str, multitenant: bool) -> Account | None:
        """By tenant and name, without regard to case. Where there is one tenant, it need not be named, and those over
        all tenants are not found."""

    async def account_of(administrator_id: int) -> Account | None:
        """By id."""

    async def session(session_hash: bytes, lifetime: Lifetime) -> Known | None:
        """Whom it belongs to."""

    async def token(token_hash: bytes) -> Known | None:
        """Whom it belongs to."""

    async def touch(some_hash: bytes) -> None:
        """It was used just now: a session or a token."""

    async def open(account: Account, new: NewSession, lifetime: Lifetime, tx: ITransaction) -> None:
        """Keep a session; the oldest make room for it. Forget whatever, whosever, is out of date."""

    async def renew(old: bytes, new: bytes, tx: ITransaction) -> bool:
        """Rotate a session whose password was given again. L{False}: it is gone."""

    async def close(
        administrator_id: int, tx: ITransaction, only: bytes | None = None, but: bytes | None = None
    ) -> int:
        """End sessions of an administrator, and say how many."""

    async def forget(session_hash: bytes, tx: ITransaction) -> None:
        """End the session, whosever it is: who calls has shown it."""

    async def sessions(administrator_id: int, lifetime: Lifetime) -> Sequence[Row]:
        """Those that are good, newest first."""

    async def set_password(account: Account, new: str, tx: ITransaction, keep: bytes | None = None) -> bool:
        """Store a new hash in the place of the one in C{account}; that ends the sessions but C{keep}. L{False}: it was
        changed meanwhile."""

    async def rehash(account: Account, new: str, tx: ITransaction) -> None:
        """Store another hash of the same password, unless it was changed meanwhile."""

    async def profile(administrator_id: int, tx: ITransaction | None = None) -> Row | None:
        """What administrators see and set of their own accounts."""

    async def set_profile(administrator_id: int, values: Mapping[str, Any], tx: ITransaction) -> None:
        """Set C{language}, C{page_size}, C{description}, C{time_zone} or C{theme}."""

    async def tokens(administrator_id: int) -> Sequence[Row]:
        """All of them, without what they prove themselves with."""

    async def add_token(
        administrator_id: int, token_hash: bytes, values: Mapping[str, Any], tx: ITransaction
    ) -> Row | None:
        """Keep a new one. L{None}: there are too many.

        @param values: C{name}, C{scopes}, C{expires_at}.
        """

    async def drop_token(administrator_id: int, token_id: int, tx: ITransaction) -> Row | None:
        """Take one away; L{None}: there is none."""

    async def drop_tokens(administrator_id: int, tx: ITransaction) -> Sequence[Row]:
        """Take all of them away, and return them."""

    async def expire_password(administrator_id: int, tx: ITransaction) -> bool:
        """The password must be replaced before anything else can be done. Whether it had to be already."""


class ISecondFactors(Interface):
    """Shared secrets of administrators' authenticators."""

    async def enrol(administrator_id: int, secret: Secret, tx: ITransaction) -> bool:
        """Keep a secret that is to be confirmed. L{False}: one is in use."""

    async def confirm(administrator_id: int, counter: int, codes: Sequence[bytes], tx: ITransaction) -> bool:
        """It is in use from now on.

        @param codes: hashes of recovery codes.
        """

    async def use(administrator_id: int, counter: int, tx: ITransaction) -> bool:
        """Use a code up. L{False}: it is."""

    async def use_recovery(administrator_id: int, code: bytes, tx: ITransaction) -> bool:
        """Use a recovery code up. L{False}: there is none like that."""

    async def drop(administrator_id: int, tx: ITransaction) -> bool:
        """Take it away. L{False}: there is none."""

    async def recovery_codes_left(administrator_id: int) -> int:
        """How many."""


@frozen
class Limit:
    """How many failures of a kind are free.

    @ivar first: seconds to wait after that; each further failure doubles them, up to C{longest}.
    @ivar forget: seconds without a failure after which they are forgotten.
    """

    free: int
    first: int
    longest: int
    forget: int


@frozen
class Bucket:
    """Where failures are counted.

    @ivar kind: C{pair} of account and address, C{account}, C{address} or C{tenant}.
    """

    kind: str
    key: bytes
    limit: Limit


@frozen
class Attempt:
    """To log in.

    @ivar wait: seconds to wait, and nothing was counted; 0: go on.
    @ivar counted: where it counts as failed until it is known to be none.
    """

    wait: int
    counted: Sequence[Bucket] = ()


class IAttempts(Interface):
    """Failures to log in, counted for all servers together."""

    async def begin(buckets: Sequence[Bucket]) -> Attempt:
        """Count an attempt as failed, before it is known: many at once are counted as well as one after the other.

        A pair that has logged in lately counts, and waits, for itself alone, so that strangers do not lock it out.
        """

    async def succeeded(attempt: Attempt, tx: ITransaction | None = None, proven: bool = True) -> None:
        """It was none.

        @param proven: the pair has logged in; its failures are forgotten.
        """


@frozen(kw_only=True)
class KeptReply:
    """An answer that was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class IReplies(Interface):
    """Answers that are kept by their callers' keys, for a day."""

    async def find(administrator_id: int, key: str) -> tuple[bytes, KeptReply] | None:
        """Digest of the request, and its answer."""

    async def keep(administrator_id: int, key: str, digest: bytes, reply: KeptReply, tx: ITransaction) -> bool:
        """L{False}: the key has an answer already, and this transaction must not take place."""
