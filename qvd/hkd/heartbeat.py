# -*- test-case-name: tests.unit.test_hkd_heartbeat -*-
"""
The sign of life, and the end of the node's rights when it cannot be given.

The lease is renewed every few seconds. The deadline is counted, on the machine's uptime, from the moment at which the
last confirmed renewal was I{sent}: the database's lease, which began later, is then still alive, so the VMs are ended
before another node may start them. A process that was stopped and goes on looks at the deadline before it writes.

A process that is stopped, stuck or killed ends nothing. The watchdog does, a little later (L{IDeadline}): it is told of
each renewal before the fence is moved, so that no VM lives on a renewal that it does not know of.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.periodic import Periodic
from qvd.interfaces import IDeadline, IHosts, INodeStatus
from qvd.model.errors import OwnershipLost, Unavailable
from qvd.model.records import Capacity, HostState, HostStatus, Lease

MARGIN = 0.25
"""Part of the lease kept for killing: the VMs must be gone when the lease is over."""
GRACE = 0.0625
"""Part of the lease after which the watchdog acts, once the fence has fallen: it takes what the daemon did not end."""


@frozen
class LeaseTimes:
    """Seconds.

    @ivar lease: a lease not renewed for so long is over.
    @ivar renew: between two renewals.
    """

    lease: float
    renew: float

    def fence(self, sent_at: float) -> float:
        """When the daemon ends its VMs, after a renewal that was sent then."""
        return sent_at + self.lease * (1 - MARGIN)

    def deadline(self, sent_at: float) -> float:
        """When the watchdog does: sooner than the lease is over, with time left to kill."""
        return sent_at + self.lease * (1 - MARGIN + GRACE)


@implementer(INodeStatus)
class Heartbeat:
    """Keeps one lease.

    @param lost: called once, with the reason, when the lease is over or cannot be kept.
    @param renewed: awaited after each renewal.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        hosts: IHosts,
        deadline: IDeadline,
        lease: Lease,
        times: LeaseTimes,
        capacity: Callable[[], Capacity],
        lost: Callable[[str], None],
        renewed: Callable[[], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._hosts = hosts
        self._deadline = deadline
        self._lease: Lease | None = lease
        self._times = times
        self._capacity = capacity
        self._lost = lost
        self._renewed = renewed
        self._status: HostStatus | None = None
        self._fence: IDelayedCall | None = None
        self._until = math.inf
        self._beats = Periodic(clock, times.renew, self._beat, "renewing the lease")

    def start(self, registered_at: float, status: HostStatus | None = None) -> None:
        """
        @param registered_at: C{clock.seconds()} before the registration was sent.
        @param status: of the node, where it is known already.
        """
        self._status = status
        self._set_fence(registered_at)
        self._beats.start()

    def now(self) -> None:
        """Renew at once: the node's row has changed."""
        self._beats.now()

    def starting(self) -> bool:
        """The node has not said yet that it runs, as the last renewal said."""
        return self._status is not None and self._status.state is HostState.STARTING

    def draining(self) -> bool:
        """The node is to get empty, as the last renewal said."""
        return self._status is not None and self._status.drain is not None

    async def stop(self) -> None:
        """Give no sign of life any more; the lease runs out by itself."""
        await self._beats.stop()
        self._clear_fence()

    async def rest(self) -> None:
        """Renew no more; the fence stays where it is."""
        await self._beats.stop()

    @property
    def until(self) -> float:
        """When the fence falls, unless the lease is renewed before."""
        return self._until

    async def settled(self) -> None:
        """It is: a lease that is another process's is another tenure's matter."""

    def lease(self) -> Lease:
        if self._clock.seconds() >= self._until:
            self._expire()
        if self._lease is None:
            raise Unavailable("This node has lost its place in the farm", retry_after=5)
        return self._lease

    def refusal(self) -> str | None:
        if self._lease is None:
            return "Server is lost"
        if self._status is None or self._status.state is not HostState.RUNNING:
            return f"Server is {'starting' if self._status is None else self._status.state.value}"
        return "Server is blocked" if self._status.blocked else None

    async def _beat(self) -> None:
        sent_at = self._clock.seconds()
        if sent_at >= self._until:
            self._expire()
        if self._lease is None:
            return
        try:
            self._status = await self._hosts.renew(self._lease, self._times.lease, self._capacity())
        except OwnershipLost as error:
            self._end(error.text)
            return
        if self._confirm(sent_at):
            await self._renewed()

    def _confirm(self, sent_at: float) -> bool:
        """@return: False when the fence fell while the answer was on its way."""
        if self._lease is None:
            return False
        self._deadline.extend(self._lease, self._times.deadline(sent_at))
        self._set_fence(sent_at)
        return True

    def _set_fence(self, sent_at: float) -> None:
        self._clear_fence()
        self._until = self._times.fence(sent_at)
        self._fence = self._clock.callLater(max(self._until - self._clock.seconds(), 0.0), self._expire)

    def _clear_fence(self) -> None:
        if self._fence is not None and self._fence.active():
            self._fence.cancel()
        self._fence = None

    def _expire(self) -> None:
        self._end("The lease could not be renewed in time")

    def _end(self, reason: str) -> None:
        if self._lease is not None:
            self._lease = None
            self._clear_fence()
            self.log.error("This node may not run VMs any more: {reason}", reason=reason)
            self._lost(reason)
