"""Accounts and tokens, in memory."""

from __future__ import annotations

from zope.interface import implementer

from qvd.interfaces import IPasswordAuthenticator, ITokenAuthenticator, IUsers
from qvd.model.errors import AuthenticationFailed
from qvd.model.ids import TenantId, UserId, VMId
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret
from tests.fakes.conduct import Conduct

ALICE = User(UserId(3), TenantId(1), "alice", None, False)
REFUSED = "Authentication failed"


@implementer(IUsers)
class FakeUsers:
    """L{IUsers}, of which only the question for blocked users is answered."""

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.blocked: set[UserId] = set()

    async def find(self, tenant: str, login: str) -> User | None:
        raise NotImplementedError

    async def is_blocked(self, user_id: UserId) -> bool:
        await self.conduct.before("is_blocked", user_id)
        return user_id in self.blocked

    async def rehash(self, user_id: UserId, old: Secret, new: str) -> None:
        raise NotImplementedError

    async def redeem(self, token_hash: bytes) -> TokenUse | None:
        raise NotImplementedError

    async def add_token(self, token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        raise NotImplementedError


@implementer(IPasswordAuthenticator)
class FakePasswords:
    """L{IPasswordAuthenticator} with one-time passwords.

    @ivar accounts: user by tenant, login and password.
    """

    def __init__(self, conduct: Conduct | None = None, once: bool = False) -> None:
        self.conduct = conduct or Conduct()
        self.once = once
        self.accounts = {("default", "alice", "secret"): ALICE}

    async def authenticate(self, tenant: str, login: str, password: Secret) -> User:
        await self.conduct.before("password", tenant, login)
        key = (tenant, login, password.reveal())
        user = self.accounts.pop(key, None) if self.once else self.accounts.get(key)
        if user is None:
            raise AuthenticationFailed(REFUSED)
        return user


@implementer(ITokenAuthenticator)
class FakeTokens:
    """L{ITokenAuthenticator} with tokens that are good for one login.

    @ivar tokens: the VM that each is bound to.
    @ivar issued: what was asked for.
    """

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.tokens: dict[str, VMId | None] = {"any": None, "nine": VMId(9)}
        self.issued: list[TokenTerms] = []

    async def authenticate(self, token: Secret) -> TokenUse:
        await self.conduct.before("token")
        if token.reveal() not in self.tokens:
            raise AuthenticationFailed(REFUSED)
        return TokenUse(ALICE, self.tokens.pop(token.reveal()))

    async def issue(self, user: User, terms: TokenTerms) -> Secret:
        await self.conduct.before("issue", user.user_id)
        self.issued.append(terms)
        token = f"canary-{len(self.issued)}"
        self.tokens[token] = terms.vm_id
        return Secret(token)
