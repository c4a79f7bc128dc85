# -*- test-case-name: tests.unit.test_hkd_node -*-
"""Ordered start and stop of everything on a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.hkd.periodic import observe
from qvd.hkd.retired import Retired
from qvd.hkd.succession import Succession
from qvd.hkd.tenure import Tenure, TenureParts
from qvd.interfaces import INodeStatus
from qvd.model.errors import QVDError, Unavailable
from qvd.model.records import Lease
from qvd.protocols.adapters.control import ControlLine
from qvd.protocols.handover import Refused, Serving

T = TypeVar("T")

RETRY = 2.0
"""Seconds between tries to begin, while the database is away."""


SETTLE = 15.0
"""For so long, at most, a client waits while one daemon hands over to another."""
LONGEST_PART = 5.0
"""Seconds for the stop of one of the lowest parts."""


class Part(Protocol):
    """Something the node starts and stops, in order."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@frozen
class NodeTimes:
    """Seconds for an orderly stop of clients and VMs, and whether it stops the VMs."""

    stop: float
    stop_vms: bool


@frozen
class Upgrade:
    """How this process goes on from another one, and another one from this.

    @ivar retired: makes the rest of this process's life, given the lease of its successor.
    @ivar finished: called when that is over: the process ends.
    """

    succession: Succession
    retired: Callable[[Serving], Retired]
    finished: Callable[[], object]


@implementer(INodeStatus)
class Node(Service):
    """The daemon.

    @param below: what an epoch needs, started first and stopped last: the database, its bells.
    @param above: what serves clients, started once the node runs and stopped first.
    @param ready: called once, when clients are served.
    @param failed: called when the node cannot go on, such as when a port is taken: the process must end.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        below: tuple[Part, ...],
        parts: TenureParts,
        above: tuple[Part, ...],
        times: NodeTimes,
        check: Callable[[], Awaitable[None]],
        ready: Callable[[], object],
        failed: Callable[[], object],
        upgrade: Upgrade | None = None,
    ) -> None:
        self._clock = clock
        self._below = below
        self._parts = parts
        self._above = above
        self._times = times
        self._check = check
        self._ready = ready
        self._failed = failed
        self._upgrade = upgrade
        self._tenure: Tenure | None = None
        self._lost: Tenure | None = None
        self._life: Deferred[None] | None = None
        self._serving = False
        self._borrows = False
        self._successor: ControlLine | None = None
        self._letting: Deferred[None] | None = None
        self._gap: Deferred[None] | None = None
        self._retired: Retired | None = None

    @property
    def _status(self) -> INodeStatus | None:
        if self._retired is not None:
            return self._retired
        return None if self._tenure is None else self._tenure.status

    async def settled(self) -> None:
        if self._gap is not None:
            waiting = observe(self._gap)
            waiting.addTimeout(SETTLE, self._clock)
            with suppress(TimeoutError):
                await waiting

    def lease(self) -> Lease:
        status = self._status
        if status is None:
            raise Unavailable("Server is starting", retry_after=5)
        return status.lease()

    def refusal(self) -> str | None:
        status = self._status
        return "Server is starting" if status is None else status.refusal()

    def standing(self) -> Serving | None:
        """The lease, for the daemon that was here before; L{None} when there is none."""
        if self._tenure is None:
            return None
        try:
            lease = self._tenure.status.lease()
        except Unavailable:
            return None
        return Serving(lease.host_id, lease.epoch, self._tenure.until, self._tenure.status.refusal() or "")

    def look_for_strays(self) -> None:
        """A daemon that was here before has ended, perhaps with sessions left open."""
        if self._tenure is not None:
            self._tenure.look_for_strays()

    def hand_over(self, successor: ControlLine) -> None:
        """A new daemon asks for all that this one has.

        @raise Unavailable: not now.
        """
        tenure = self._tenure
        if tenure is None or not (self._serving and self.running) or self._successor is not None:
            raise Unavailable("it is starting, stopping, or being upgraded already")
        self._successor = successor
        self._letting = Deferred.fromCoroutine(self._let_go(tenure))
        self._letting.addErrback(self._died)

    async def _let_go(self, tenure: Tenure) -> None:
        await tenure.let_go()
        if not tenure.over.called:
            tenure.over.callback("another daemon takes over")

    def startService(self) -> None:
        Service.startService(self)  # type: ignore[no-untyped-call]
        self._life = Deferred.fromCoroutine(self._live())
        self._life.addErrback(self._died)

    def _died(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("the node failed", failure)
            self._failed()

    async def _live(self) -> None:
        for part in self._below:
            await self._patiently(part.start)
        tenure: Tenure | None = await self._first()
        while tenure is not None:
            reason = await tenure.over
            successor, self._successor = self._successor, None
            if successor is not None and tenure.rests:
                tenure = await self._give_way(tenure, successor)
            else:
                if successor is not None:
                    self._keep(successor, reason)
                tenure = await self._start_anew(tenure, reason)

    def _keep(self, successor: ControlLine, reason: str) -> None:
        """The lease was lost before it was let go of."""
        if self._letting is not None:
            # It would leave the VMs as they are, while they are being ended.
            self._letting.cancel()
        successor.send(Refused(reason))
        successor.close()

    async def _first(self) -> Tenure:
        """Begin, as the successor of another process where there is one, and serve clients."""
        if self._upgrade is not None:
            # All that may fail without an effect comes first.
            await self._patiently(self._check)
            self._borrows = await self._upgrade.succession.inherit()
        # A predecessor waits, and goes on if this process fails.
        tenure = await (self._attempt(True) if self._borrows else self._begin(False))
        self._tenure = tenure
        for part in self._above:
            await part.start()
        self._serving, self._borrows = True, False
        if self._upgrade is not None:
            await self._upgrade.succession.serving()
        self._ready()
        return tenure

    async def _attempt(self, inherits: bool) -> Tenure:
        await self._check()
        tenure = Tenure(self._parts, inherits)
        await tenure.begin()
        return tenure

    async def _begin(self, inherits: bool) -> Tenure:
        self._tenure = await self._patiently(lambda: self._attempt(inherits))
        return self._tenure

    async def _start_anew(self, tenure: Tenure, reason: str) -> Tenure:
        self.log.error("starting anew: {reason}", reason=reason)
        self._tenure, self._lost = None, tenure
        await tenure.abandon()
        self._lost = None
        return await self._begin(False)

    async def _give_way(self, tenure: Tenure, successor: ControlLine) -> Tenure | None:
        """Let the other process go on, and serve what clients are left; or go on where it has failed."""
        assert self._upgrade is not None
        succession = self._upgrade.succession
        self._gap = Deferred()
        began = self._clock.seconds()
        try:
            told = await succession.hand(successor, (tenure.until - self._clock.seconds()) / 2)
            if told is None:
                self.log.error("the new daemon has failed; this one goes on")
                # As after a restart, but that nothing ends. The former fence stands until it is done.
                following = await self._begin(True)
                succession.resume()
            else:
                self._retired, self._tenure, following = self._upgrade.retired(told), None, None
            await tenure.end()
        finally:
            gap, self._gap = self._gap, None
            gap.callback(None)
        if self._retired is not None:
            seconds = self._clock.seconds() - began
            self.log.info("another daemon serves; for {seconds:.3f} s nobody did", seconds=seconds)
            await self._serve_the_rest(self._retired)
        return following

    async def _serve_the_rest(self, retired: Retired) -> None:
        assert self._upgrade is not None
        await self._upgrade.succession.retire()
        await retired.live()
        self.log.info("no client is left of before the upgrade")
        self._upgrade.finished()

    async def _patiently(self, start: Callable[[], Awaitable[T]]) -> T:
        """Try until it works: a node comes up by itself once the database does, or its row is there."""
        while True:
            try:
                return await start()
            except QVDError as error:
                self.log.error("cannot start yet: {reason}", reason=error.text)
                await deferLater(self._clock, RETRY)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)  # type: ignore[no-untyped-call]
        for work in (self._life, self._letting):
            if work is not None:
                work.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._in_time(self._leave(), self._times.stop)
        # Whatever became of that: a thread that is not stopped keeps the process alive.
        for part in reversed(self._below):
            await self._in_time(self._stop_part(part), LONGEST_PART)

    async def _in_time(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        ending = Deferred.fromCoroutine(work)
        ending.addTimeout(seconds, self._clock)
        ending.addErrback(lambda failure: self.log.failure("the stop was not orderly", failure))
        await ending

    async def _leave(self) -> None:
        for part in reversed(self._above):
            await self._stop_part(part)
        if self._lost is not None:
            # Whoever takes its VMs over relies on their being gone.
            await self._lost.abandon()
        if self._tenure is not None and self._borrows:
            # It is the predecessor's again, which waits for our end.
            await self._tenure.let_go()
            await self._tenure.end()
        elif self._tenure is not None:
            await self._tenure.close(self._times.stop_vms)
        if self._upgrade is not None:
            self._upgrade.succession.abandon()

    async def _stop_part(self, part: Part) -> None:
        """One that cannot be stopped does not keep the others running."""
        try:
            await part.stop()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("a part of the node did not stop")
