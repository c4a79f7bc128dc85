"""Ports: who somebody is, and what proves it."""

from __future__ import annotations

from zope.interface import Interface

from qvd.model.ids import UserId
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret


class IUsers(Interface):
    """The accounts."""

    async def find(tenant: str, login: str) -> User | None:
        """By the tenant's name and the login, both without regard to case."""

    async def is_blocked(user_id: UserId) -> bool:
        """True for a user who is blocked, whose tenant is, or who is gone."""

    async def rehash(user_id: UserId, old: Secret, new: str) -> None:
        """Replace a hash of an older kind, after a login that it was good for; unless it was changed meanwhile."""

    async def redeem(token_hash: bytes) -> TokenUse | None:
        """Accept a bearer token, using a single-use one up. L{None}: unknown, expired or used."""

    async def add_token(token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        """Keep a new bearer token, and forget those, whosever, that are expired or used up. L{False}: the user has too
        many."""


class IHasher(Interface):
    """Hashes passwords off the reactor, in a bounded pool."""

    async def verify(stored: str | None, password: str) -> bool:
        """Compare; with L{None}, take as long and answer L{False}."""

    async def hash(password: str) -> str:
        """A hash to store."""


class IPasswordAuthenticator(Interface):
    """Proves who somebody is by login and password."""

    async def authenticate(tenant: str, login: str, password: Secret) -> User:
        """@raise AuthenticationFailed: for whatever reason; it does not say which."""


class ITokenAuthenticator(Interface):
    """Issues bearer tokens, and proves who somebody is by one."""

    async def authenticate(token: Secret) -> TokenUse:
        """@raise AuthenticationFailed: unknown, expired or used up."""

    async def issue(user: User, terms: TokenTerms) -> Secret:
        """A new token. Nobody can be told it again: only its hash is kept.

        @raise Unavailable: the user has too many.
        """
