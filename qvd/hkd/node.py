# -*- test-case-name: tests.unit.test_hkd_node -*-
"""Ordered start and stop of everything on a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.hkd.tenure import Tenure, TenureParts
from qvd.interfaces import INodeStatus
from qvd.model.errors import QVDError, Unavailable
from qvd.model.records import Lease

T = TypeVar("T")

RETRY = 2.0
"""Seconds between tries to begin, while the database is away."""


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
    ) -> None:
        self._clock = clock
        self._below = below
        self._parts = parts
        self._above = above
        self._times = times
        self._check = check
        self._ready = ready
        self._failed = failed
        self._tenure: Tenure | None = None
        self._lost: Tenure | None = None
        self._life: Deferred[None] | None = None
        self._serving = False

    def lease(self) -> Lease:
        if self._tenure is None:
            raise Unavailable("Server is starting", retry_after=5)
        return self._tenure.status.lease()

    def refusal(self) -> str | None:
        return "Server is starting" if self._tenure is None else self._tenure.status.refusal()

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
        while True:
            tenure = await self._begin()
            if not self._serving:
                self._serving = True
                for part in self._above:
                    await part.start()
                self._ready()
            reason = await tenure.over
            self.log.error("starting anew: {reason}", reason=reason)
            self._tenure, self._lost = None, tenure
            await tenure.abandon()
            self._lost = None

    async def _begin(self) -> Tenure:
        async def attempt() -> Tenure:
            await self._check()
            tenure = Tenure(self._parts)
            await tenure.begin()
            return tenure

        self._tenure = await self._patiently(attempt)
        return self._tenure

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
        if self._life is not None:
            self._life.cancel()
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
        if self._tenure is not None:
            await self._tenure.close(self._times.stop_vms)

    async def _stop_part(self, part: Part) -> None:
        """One that cannot be stopped does not keep the others running."""
        try:
            await part.stop()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("a part of the node did not stop")
