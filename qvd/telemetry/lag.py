# -*- test-case-name: tests.unit.test_telemetry -*-
"""How late the reactor comes to what it has to do: the one number that tells that something blocks it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

INTERVAL = 0.25


class LagWatch:
    """Looks at the clock every so often.

    @param late: told by how many seconds each look was late.
    """

    def __init__(self, clock: IReactorTime, late: Callable[[float], object]) -> None:
        self._clock = clock
        self._late = late
        self._due = 0.0
        self._beat = LoopingCall(self._look)
        self._beat.clock = clock

    async def start(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._beat.start(INTERVAL, now=False)

    async def stop(self) -> None:
        if self._beat.running:
            self._beat.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        self._late(max(0.0, now - self._due))
        # The loop keeps to multiples of its interval, and leaves out those that are over.
        self._due += INTERVAL * (1 + max(0, int((now - self._due) / INTERVAL)))
