# -*- test-case-name: tests.unit.test_l7r_gate -*-
"""
Who is at the other end of one connection.

One-time codes and single-use tokens are sent again, unchanged, with each request of a connection: credentials that
were accepted once on it are not tried again. Whether the user is blocked is looked up each time.
"""

from __future__ import annotations

from attrs import frozen

from qvd.interfaces import IPasswordAuthenticator, ITokenAuthenticator, IUsers
from qvd.model.errors import AuthenticationFailed, Forbidden
from qvd.model.ids import UserId, VMId
from qvd.model.records import User
from qvd.protocols.http1 import RequestHead
from qvd.protocols.l7r import BasicCredentials, BearerCredentials, credentials, split_login

REFUSED = "Authentication failed"


@frozen
class Identity:
    """A user who has proved to be one.

    @ivar only_vm: the VM that a token is bound to.
    @ivar by_token: the proof was a token.
    """

    user: User
    only_vm: VMId | None = None
    by_token: bool = False

    def may_use(self, vm_id: VMId) -> bool:
        """Of the user's own VMs."""
        return self.only_vm in (None, vm_id)

    def check_vm(self, vm_id: VMId) -> None:
        """@raise Forbidden: the token is for another VM."""
        if not self.may_use(vm_id):
            raise Forbidden("The token is not valid for the requested virtual machine")

    def check_issue(self) -> None:
        """@raise Forbidden: with a token that soon ends one must not get others that do not."""
        if self.by_token:
            raise Forbidden("A token is made for a user who logs in with a password, not with a token")


@frozen
class Authenticators:
    """The ways to prove who one is, and how a login names its tenant."""

    users: IUsers
    password: IPasswordAuthenticator
    token: ITokenAuthenticator
    separators: str
    default_tenant: str

    async def identify(self, offered: BasicCredentials | BearerCredentials) -> Identity:
        """@raise AuthenticationFailed: wrong, unknown or blocked."""
        match offered:
            case BasicCredentials(login, password):
                name, tenant = split_login(login, self.separators, self.default_tenant)
                return Identity(await self.password.authenticate(tenant, name, password))
            case BearerCredentials(token):
                use = await self.token.authenticate(token)
                return Identity(use.user, use.vm_id, by_token=True)

    async def check_blocked(self, user_id: UserId) -> None:
        """@raise AuthenticationFailed: blocked, or gone."""
        if await self.users.is_blocked(user_id):
            raise AuthenticationFailed(REFUSED)


class Gate:
    """The memory of one connection."""

    def __init__(self, authenticators: Authenticators) -> None:
        self._authenticators = authenticators
        self._accepted: tuple[BasicCredentials | BearerCredentials, Identity] | None = None

    async def admit(self, head: RequestHead) -> Identity:
        """The user behind a request.

        @raise AuthenticationFailed: no credentials, wrong ones, or a blocked user.
        """
        offered = credentials(head)
        if offered is None:
            raise AuthenticationFailed(REFUSED)
        if self._accepted is not None and self._accepted[0] == offered:
            identity = self._accepted[1]
            await self._authenticators.check_blocked(identity.user.user_id)
            return identity
        identity = await self._authenticators.identify(offered)
        self._accepted = (offered, identity)
        return identity
