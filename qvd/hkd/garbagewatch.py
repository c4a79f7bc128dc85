# -*- test-case-name: tests.unit.test_hkd_garbagewatch -*-
"""
Collects garbage every so often, for as long as this node has its lease. What users made is never collected so: that
takes an order, C{qvd-node garbage --homes}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.collector import Report
from qvd.model.errors import Conflict, QVDError
from qvd.model.garbage import Fate

SOON = 24
"""A part of the interval: then comes the first run, since a node that has just started has other things to do, and the
next one after a run that failed, since another node may just have been at it."""


@frozen
class GarbageParts:
    """What the watch is made of.

    @ivar collect: one run.
    @ivar seconds: between two runs.
    """

    collect: Callable[[], Awaitable[Report]]
    seconds: float


class GarbageWatch:
    """A run at a time. Nobody waits for the end of one: what it has not done, another one will."""

    log = Logger()

    def __init__(self, clock: IReactorTime, parts: GarbageParts) -> None:
        self._clock = clock
        self._parts = parts
        self._timer: IDelayedCall | None = None
        self._running: Deferred[float] | None = None

    def start(self) -> None:
        self._arm(self._parts.seconds / SOON)

    async def stop(self) -> None:
        """Give the present run up."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _arm(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._run)

    def _run(self) -> None:
        self._timer = None
        running = self._running = Deferred.fromCoroutine(self._collect())
        running.addErrback(self._report)
        running.addCallback(lambda seconds: self._ended(running, seconds))

    def _ended(self, running: Deferred[float], seconds: float) -> None:
        if self._running is running:
            self._running = None
            self._arm(seconds)

    async def _collect(self) -> float:
        """@return: seconds until the next run."""
        report = await self._parts.collect()
        counts = {fate: sum(verdict.fate is fate for verdict in report.verdicts) for fate in Fate}
        self.log.info(
            "garbage: {marked} things are marked, {waiting} wait, {held} need an order, {removed} folders were removed",
            marked=counts[Fate.MARK],
            waiting=counts[Fate.WAIT],
            held=counts[Fate.HOLD],
            removed=report.removed,
        )
        for text in report.failures:
            self.log.warn("garbage: {text}", text=text)
        return self._parts.seconds

    def _report(self, failure: Failure) -> float:
        match failure.value:
            case CancelledError():
                pass
            case Conflict(text=text):
                # Another node is at it, or an administrator is to look.
                self.log.warn("no garbage is collected: {reason}", reason=text)
            case QVDError(text=text):
                self.log.warn("collecting garbage: {reason}; it is tried again", reason=text)
            case _:
                self.log.failure("collecting garbage", failure)
        return self._parts.seconds / SOON
