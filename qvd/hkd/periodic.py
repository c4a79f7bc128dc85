# -*- test-case-name: tests.unit.test_hkd_periodic -*-
"""Work that is done every so often and at once when a bell rings, never twice at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from qvd.interfaces import IBells
from qvd.model.errors import QVDError


class Periodic:
    """Calls C{work} after C{seconds}, or sooner on L{now}; a call that comes while it runs makes it run again.

    A failure is logged and the next turn comes all the same: what the work looks at is still there then.
    @param what: names the work in the log.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float, work: Callable[[], Awaitable[None]], what: str) -> None:
        self._clock = clock
        self._seconds = seconds
        self._work = work
        self._what = what
        self._timer: IDelayedCall | None = None
        self._turn: Deferred[None] | None = None
        self._again = False
        self._running = False
        self._deafen: list[Callable[[], None]] = []

    @property
    def running(self) -> bool:
        """Between L{start} and L{stop}."""
        return self._running

    def heed(self, bells: IBells, channel: str) -> None:
        """Let these bells shorten the wait, too, until L{stop}."""
        self._deafen.append(bells.listen(channel, lambda _: self.now()))

    def start(self) -> None:
        """Run now, and from now on."""
        self._running = True
        self.now()

    def now(self) -> None:
        """Do not wait for the next turn."""
        if not self._running:
            return
        if self._turn is not None:
            self._again = True
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        turn = self._turn = Deferred.fromCoroutine(cast(Coroutine[Any, Any, None], self._work()))
        turn.addErrback(self._report)
        turn.addCallback(lambda _: self._ended())

    def _report(self, failure: Any) -> None:
        match failure.value:
            case CancelledError():
                pass
            case QVDError(text=text):
                self.log.warn("{what}: {reason}", what=self._what, reason=text)
            case _:
                self.log.failure("{what}", failure, what=self._what)

    def _ended(self) -> None:
        self._turn = None
        if not self._running:
            return
        delay, self._again = (0.0 if self._again else self._seconds), False
        self._timer = self._clock.callLater(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.now()

    async def stop(self) -> None:
        """No further turn; returns when the present one is over."""
        self._running = False
        for deafen in self._deafen:
            deafen()
        self._deafen.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turn is not None:
            await observe(self._turn)


def observe(done: Deferred[None]) -> Deferred[None]:
    """A Deferred of one's own that fires with C{done}; cancelling it leaves C{done} alone."""
    mine: Deferred[None] = Deferred()

    def fired(result: None) -> None:
        if not mine.called:
            mine.callback(None)

    done.addCallback(fired)
    return mine
