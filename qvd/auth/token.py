# -*- test-case-name: tests.unit.test_auth_token -*-
"""
Bearer tokens. The database holds only their hashes: whoever reads it cannot log in with what he finds.

A token has 256 random bits, so one round of SHA-256 without salt is enough.
"""

from __future__ import annotations

import hashlib
import secrets

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import ITokenAuthenticator, IUsers
from qvd.model.errors import AuthenticationFailed, Unavailable
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret

REFUSED = "Authentication failed"
TOKEN_BYTES = 32


def new_token() -> Secret:
    """A fresh token: 43 characters that need no escaping anywhere."""
    return Secret(secrets.token_urlsafe(TOKEN_BYTES))


def hash_token(token: Secret) -> bytes:
    """What the database knows of a token."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).digest()


@implementer(ITokenAuthenticator)
@frozen
class TokenAuthenticator:
    """L{ITokenAuthenticator} over the tokens in the database."""

    users: IUsers

    async def authenticate(self, token: Secret) -> TokenUse:
        use = await self.users.redeem(hash_token(token))
        if use is None or use.user.blocked:
            raise AuthenticationFailed(REFUSED)
        return use

    async def issue(self, user: User, terms: TokenTerms) -> Secret:
        token = new_token()
        if not await self.users.add_token(hash_token(token), user, terms):
            raise Unavailable("There are too many tokens for this user already; those in use expire")
        return token
