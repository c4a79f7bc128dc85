# -*- test-case-name: tests.unit.test_sim_clock -*-
"""Simulated time, and the reactor of one simulated node: a process that can be held up, cut off and killed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer


class Timers:
    """Calls to be made, by time and then by the order in which they were asked for.

    Twisted's C{task.Clock} sorts all of them for each new one: too slow for those of ten thousand guests.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()

    def add(self, delay: float, call: Callable[..., object], args: Any, kwargs: Any) -> DelayedCall:
        """@param delay: seconds from now."""
        timer = DelayedCall(
            self._seconds() + max(delay, 0.0), call, args, kwargs, lambda _: None, self._push, self._seconds
        )
        self._push(timer)
        return timer

    def _push(self, timer: DelayedCall) -> None:
        heapq.heappush(self._heap, (timer.time, next(self._order), timer))

    def due(self) -> float | None:
        """When the first call is to be made; L{None} when there is none."""
        while self._heap:
            at, _, timer = self._heap[0]
            if timer.cancelled or timer.called or timer.time != at:
                heapq.heappop(self._heap)
            elif timer.delayed_time > 0:
                heapq.heappop(self._heap)
                timer.activate_delay()
                self._push(timer)
            else:
                return at
        return None

    def run_next(self) -> None:
        """Make the first call. Its failure is logged, as a reactor does."""
        _, _, timer = heapq.heappop(self._heap)
        timer.called = 1
        try:
            timer.func(*timer.args, **timer.kw)
        except Exception:  # noqa: BLE001 - one that fails must not keep the others from being made
            self.log.failure("a timed call failed")

    def live(self) -> list[IDelayedCall]:
        """Those that are to come."""
        return [timer for at, _, timer in self._heap if timer.active() and timer.time == at]


@implementer(IReactorTime)
class VirtualClock:
    """Time that passes only when it is told to.

    @param start: seconds at the beginning.
    @ivar urgent: called when something is to be done at once.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self.urgent: Callable[[], None] = lambda: None
        self._timers = Timers(self.seconds)

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        timer = self._timers.add(delay, callable, args, kwargs)
        if delay <= 0:
            self.urgent()
        return timer

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return self._timers.live()

    def due(self) -> float | None:
        """When something is to happen next."""
        return self._timers.due()

    def run_until(self, until: float) -> None:
        """Let time go on to C{until}; each call sees the time that it was asked for."""
        while (due := self._timers.due()) is not None and due <= until:
            self._now = max(self._now, due)
            self._timers.run_next()
        self._now = max(self._now, until)


class NodeReactor:
    """What a node has for a reactor.

    Its timers are its own, so that they stop when the process is stopped, and come all at once when it goes on. What
    is not about time is the real reactor's.

    @param clock: of the world.
    @param real: has the sockets.
    """

    def __init__(self, clock: IReactorTime, real: Any) -> None:
        self._clock = clock
        self._real = real
        self._timers = Timers(clock.seconds)
        self._alarm: IDelayedCall | None = None
        self._alarm_at = 0.0
        self._readers: set[Any] = set()
        self._writers: set[Any] = set()
        self._cut = False
        self._stopped = False
        self._running = False
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    # Time.

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, call: Callable[..., object], *args: object, **kwargs: object) -> IDelayedCall:
        timer = self._timers.add(delay, call, args, kwargs)
        self._arm()
        return timer

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return self._timers.live()

    def _arm(self) -> None:
        """Have the world's clock wake us for our first timer."""
        if self._stopped or self.dead or self._running:
            return
        due = self._timers.due()
        if self._alarm is not None:
            if due is not None and due >= self._alarm_at:
                return
            self._alarm.cancel()
            self._alarm = None
        if due is not None:
            self._alarm_at = due
            self._alarm = self._clock.callLater(max(due - self._clock.seconds(), 0.0), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._running = True
        try:
            while not self._stopped and not self.dead and (due := self._timers.due()) is not None:
                if due > self._clock.seconds():
                    break
                self._timers.run_next()
        finally:
            self._running = False
        self._arm()

    # Descriptors.

    @property
    def mute(self) -> bool:
        """Nothing comes in from the database."""
        return self._cut or self._stopped or self.dead

    def addReader(self, reader: Any) -> None:
        self._readers.add(reader)
        if not self.mute:
            self._real.addReader(reader)

    def addWriter(self, writer: Any) -> None:
        self._writers.add(writer)
        if not self.mute:
            self._real.addWriter(writer)

    def removeReader(self, reader: Any) -> None:
        self._readers.discard(reader)
        self._real.removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        self._writers.discard(writer)
        self._real.removeWriter(writer)

    def _apply(self) -> None:
        for known, add, remove in (
            (self._readers, self._real.addReader, self._real.removeReader),
            (self._writers, self._real.addWriter, self._real.removeWriter),
        ):
            # What was closed while nobody listened is not told to the reactor any more.
            known -= {descriptor for descriptor in known if descriptor.fileno() < 0}
            for descriptor in known:
                (remove if self.mute else add)(descriptor)

    @property
    def descriptors(self) -> set[Any]:
        """All that is read or written."""
        return self._readers | self._writers

    # What befalls the process.

    def cut(self, off: bool) -> None:
        """Answers of the database do not come in any more; C{False} ends that."""
        self._cut = off
        self._apply()

    def stop_process(self) -> None:
        """SIGSTOP."""
        self._stopped = True
        self._apply()

    def continue_process(self) -> None:
        """SIGCONT."""
        self._stopped = False
        self._apply()
        self._alarm = None
        self._arm()

    def die(self) -> None:
        """SIGKILL: not another line of the node runs."""
        self.dead = True
        self._apply()
