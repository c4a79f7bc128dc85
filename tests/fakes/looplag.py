# -*- test-case-name: tests.unit.test_looplag -*-
"""
How long the reactor was kept from turning while something ran.

For tests of what must not block. They L{LoopLag.say} it and never assert a duration: the machine may be slow for
reasons of its own. That a hung storage does not stop the loop is asserted by the order of events: C{await
lag.turned()} while the storage hangs, and only then let it go on::

    with LoopLag(reactor) as lag:
        work = spawn(roots.prepare(spec, progress))
        await lag.turned(50)            # never, where the work blocks the reactor
        storage.answer()
        await work
    lag.say()
"""

from __future__ import annotations

import sys
from types import TracebackType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL = 0.01
"""Seconds between two beats of a reactor that has nothing else to do."""


class LoopLag:
    """A context manager: counts from its beginning to its end.

    @ivar largest: seconds by which the latest beat was late.
    @ivar beats: how many there were.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._last = 0.0
        self._timer: IDelayedCall | None = None
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self.largest = 0.0
        self.beats = 0

    def __enter__(self) -> LoopLag:
        self._last = self._clock.seconds()
        self._arm()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # What has blocked the reactor until now counts as well.
        self._measure()
        if self._timer is not None:
            self._timer.cancel()
        for _, waiting in self._waiting:
            waiting.cancel()

    def turned(self, count: int = 10) -> Deferred[None]:
        """Fires after so many beats more. Cancelled at the end of the context."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((self.beats + count, waiting))
        return waiting

    def say(self) -> None:
        """For who reads the tests' output."""
        sys.stdout.write(f"{self}\n")

    def __str__(self) -> str:
        return f"largest lag of the loop: {self.largest * 1000:.1f} ms in {self.beats} beats"

    def _arm(self) -> None:
        self._timer = self._clock.callLater(INTERVAL, self._beat)

    def _beat(self) -> None:
        self._measure()
        self.beats += 1
        self._arm()
        due = [waiting for beats, waiting in self._waiting if beats <= self.beats]
        self._waiting = [(beats, waiting) for beats, waiting in self._waiting if beats > self.beats]
        for waiting in due:
            if not waiting.called:
                waiting.callback(None)

    def _measure(self) -> None:
        now = self._clock.seconds()
        self.largest = max(self.largest, now - self._last - INTERVAL)
        self._last = now
