"""L{qvd.auth.token}."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from qvd.auth.token import TokenAuthenticator, hash_token, new_token
from qvd.interfaces import ITokenAuthenticator
from qvd.model.errors import AuthenticationFailed, Unavailable
from qvd.model.ids import TenantId, UserId, VMId
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret

USE = TokenUse(User(UserId(7), TenantId(3), "alice", None, blocked=False), VMId(12))

TERMS = TokenTerms(VMId(12), multi_use=False, seconds=300)


class FakeUsers:
    def __init__(self, use: TokenUse | None) -> None:
        self.redeemed: list[bytes] = []
        self.added: list[tuple[bytes, User, TokenTerms]] = []
        self.full = False
        self._use = use

    async def redeem(self, token_hash: bytes) -> TokenUse | None:
        self.redeemed.append(token_hash)
        return self._use

    async def add_token(self, token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        self.added.append((token_hash, user, terms))
        return not self.full


def authenticate(users: Any) -> Any:
    return outcome(TokenAuthenticator(users).authenticate(Secret("token")))


def issue(users: Any) -> Any:
    return outcome(TokenAuthenticator(users).issue(USE.user, TERMS))


def outcome(work: Coroutine[Any, Any, Any]) -> Any:
    seen: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(seen.append)
    if isinstance(seen[0], Failure):
        error: Any = seen[0].value
        raise error
    return seen[0]


def test_new_token() -> None:
    tokens = {new_token().reveal() for _ in range(50)}
    assert len(tokens) == 50
    for token in tokens:
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token), token


def test_hash() -> None:
    assert hash_token(Secret("token")) == hashlib.sha256(b"token").digest()
    assert len(hash_token(Secret("\udcff"))) == 32


def test_authenticator_provides_its_port() -> None:
    users: Any = FakeUsers(None)
    assert verifyObject(ITokenAuthenticator, TokenAuthenticator(users))


def test_accepted() -> None:
    users = FakeUsers(USE)
    assert authenticate(users) == USE
    assert users.redeemed == [hash_token(Secret("token"))]


@pytest.mark.parametrize("use", [None, evolve(USE, user=evolve(USE.user, blocked=True))])
def test_refused(use: TokenUse | None) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^Authentication failed$"):
        authenticate(FakeUsers(use))


def test_issued() -> None:
    """Its owner is told the token, the database its hash."""
    users = FakeUsers(None)
    token = issue(users)
    assert users.added == [(hash_token(token), USE.user, TERMS)]


def test_not_issued() -> None:
    users = FakeUsers(None)
    users.full = True
    with pytest.raises(Unavailable, match="too many tokens"):
        issue(users)
