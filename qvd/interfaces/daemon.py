"""Ports: what the parts of one daemon ask of one another."""

from __future__ import annotations

from collections.abc import Collection

from zope.interface import Interface

from qvd.model.ids import SessionId
from qvd.model.records import Lease


class IDeadline(Interface):
    """When the VMs of this node must be dead, as known to whoever sees to it, whatever becomes of the daemon."""

    def extend(lease: Lease, until: float) -> None:
        """The lease was confirmed: the VMs may live until C{until}, in seconds of the machine's uptime. Called before
        anything relies on that, so it must have taken effect when it returns.

        @raise TransientError: it has not; the former deadline stands.
        """

    async def release() -> None:
        """This daemon ends, and starts no VM any more."""


class ISessionKiller(Interface):
    """The L7R's side of the rule that the newest client wins."""

    def serves(session_id: SessionId) -> bool:
        """It goes on here."""

    def confirmed() -> Collection[SessionId]:
        """Those that go on here, and of which the database has said that it knows them."""

    def close(session_id: SessionId, reason: str) -> None:
        """End one, telling its client the reason where the protocol still allows. Of one that is not served (any
        more), only the row is closed."""

    def close_all(reason: str) -> None:
        """End all that go on here."""


class INodeStatus(Interface):
    """What the L7R must know of its own node before it serves anybody."""

    async def settled() -> None:
        """Return when it is known which process of this node has the lease: at once, but for the moment in which one
        hands it over to the next. Bounded in time."""

    def lease() -> Lease:
        """@raise Unavailable: the node has none now."""

    def refusal() -> str | None:
        """Why this node serves nobody now, in the words of the 503; L{None} when it does."""
