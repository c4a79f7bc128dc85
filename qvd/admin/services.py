"""What the operations of the API work with. Made once, at the start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, frozen

from qvd.admin.call import Answer, Call
from qvd.admin.imagework import ImageWork
from qvd.admin.places import ImagePlaces
from qvd.interfaces import IDatabase, IHasher, ITransaction
from qvd.interfaces.administration import IAudit, IAuthority, IChanges, IRecords, IStatistics
from qvd.interfaces.images import IImageTags
from qvd.interfaces.jobs import IHostOrders, IJobs
from qvd.interfaces.logins import IAttempts, ILoginPolicy, ILogins, ISecondFactors
from qvd.interfaces.orders import IOrders
from qvd.interfaces.roles import IRoles
from qvd.model.declared import Principal

if TYPE_CHECKING:
    from qvd.admin.events.feed import Feed


class Gate(Protocol):
    """Who calls."""

    async def identify(self, call: Call) -> Principal | None:
        """Whom cookie or token belong to; L{None}: there are none.

        @raise Problem: they are not valid.
        """

    def check_origin(self, call: Call) -> None:
        """@raise Problem: a page of another site may have sent it."""

    def check_site(self, call: Call) -> None:
        """The same for a call that needs no session.

        @raise Problem: a browser says that a page of another site sends this.
        """


class Throttle(Protocol):
    """How often somebody may call."""

    async def admit(self, call: Call) -> None:
        """@raise Problem: too often."""


class Replies(Protocol):
    """Answers that are kept, so that a request that is sent again does nothing again."""

    async def find(self, principal: Principal, key: str, digest: bytes) -> Answer | None:
        """The answer that was given.

        @raise Problem: the key belongs to another request.
        """

    def keeper(self, principal: Principal, key: str, digest: bytes) -> Callable[[Any, ITransaction], Awaitable[None]]:
        """Keeps the answer that a change returns, in its transaction."""


class Principals(Protocol):
    """Administrators whose jobs go on while they are not there."""

    async def now(self, administrator_id: int | None, at_most: frozenset[str]) -> Principal | None:
        """Who it is by now, with the permissions that they have by now and had then; L{None}: the account is gone,
        or it or its tenant is blocked."""


class Doctor(Protocol):
    """Says what is wrong."""

    async def report(self) -> tuple[Mapping[str, Any], float]:
        """The document of a report, as C{qvd-doctor --json} writes it, and its age in seconds."""


@frozen(kw_only=True)
class LoginPorts:
    """What logins work with."""

    policy: ILoginPolicy
    logins: ILogins
    second_factors: ISecondFactors
    attempts: IAttempts
    authority: IAuthority


@define(kw_only=True)
class Services:
    """
    @ivar database: for what is no object of a declared resource.
    @ivar feed: tells events; L{None}: this service tells none.
    @ivar places: where images are kept; L{None}: this service has none, and can receive none.
    @ivar image_work: threads for the files of images.
    @ivar doctor: L{None}: this service has none.
    """

    database: IDatabase
    records: IRecords
    roles: IRoles
    changes: IChanges
    audit: IAudit
    hasher: IHasher
    orders: IOrders
    gate: Gate
    throttle: Throttle
    replies: Replies
    statistics: IStatistics
    principals: Principals
    jobs: IJobs
    host_orders: IHostOrders
    login: LoginPorts
    image_tags: IImageTags
    image_work: ImageWork
    reactor: Any
    feed: Feed | None = None
    places: ImagePlaces | None = None
    doctor: Doctor | None = None
