# -*- test-case-name: tests.unit.test_garbage_worker -*-
"""Blocking work on storage that may hang: one thread at a time, given up when it does not get on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from qvd.model.errors import TransientError

T = TypeVar("T")
Beat = Callable[[], None]
"""Called by work whenever it has got on. Raises L{GivenUp} when nobody waits for it any more: it is to undo what it has
begun, and to end."""


class GivenUp(Exception):
    """Nobody waits for this work any more."""


class Task:
    """One piece of work, as its thread and the reactor share it."""

    def __init__(self) -> None:
        self.beats = 0
        self.given_up = False

    def beat(self) -> None:
        if self.given_up:
            raise GivenUp
        self.beats += 1


class Worker:
    """Runs one thing at a time. Its threads do not keep the process alive, and are none of the reactor's: one that a
    file server never lets go of costs nothing but itself.

    @param patience: seconds that work may go without a beat.
    @param start: starts a thread with this function.
    """

    def __init__(self, reactor: Any, patience: float, start: Callable[[Callable[[], None]], None]) -> None:
        self._reactor = reactor
        self._patience = patience
        self._start = start
        self._busy: Task | None = None

    def run(self, work: Callable[[Beat], T], patience: float | None = None) -> Deferred[T]:
        """Run it in a thread; cancelling the Deferred gives it up.

        @param patience: of its own, for work that has few beats.
        @return: fails with L{TransientError} when it does not get on, or while other work still hangs.
        """
        if self._busy is not None:
            return failed("The storage has not answered for a while: something still waits for it")
        task = self._busy = Task()
        done: Deferred[T] = Deferred(lambda _: self._give_up(task))
        seconds = patience or self._patience
        watch = Watch(self._reactor, seconds, task, lambda: self._late(task, done, seconds))
        done.addBoth(watch.end)
        self._start(lambda: self._perform(work, task, done))
        return done

    def _perform(self, work: Callable[[Beat], T], task: Task, done: Deferred[T]) -> None:
        """In the thread."""
        result: T | Failure
        try:
            result = work(task.beat)
        except BaseException:  # noqa: BLE001 - whatever it is, it is for who waits
            result = Failure()  # type: ignore[no-untyped-call]
        self._reactor.callFromThread(self._ended, task, done, result)

    def _ended(self, task: Task, done: Deferred[T], result: T | Failure) -> None:
        self._busy = None
        # Given up, it has its result already.
        if not done.called and not task.given_up:
            done.callback(result)

    def _give_up(self, task: Task) -> None:
        task.given_up = True

    def _late(self, task: Task, done: Deferred[T], seconds: float) -> None:
        self._give_up(task)
        done.errback(TransientError(f"The storage does not answer: nothing has come of it for {seconds:g} s"))


class Watch:
    """Looks whether a task gets on."""

    def __init__(self, clock: Any, seconds: float, task: Task, late: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._task = task
        self._late = late
        self._seen = -1
        self._timer: IDelayedCall | None = None
        self._look()

    def _look(self) -> None:
        self._timer = None
        if self._task.beats == self._seen:
            self._late()
            return
        self._seen = self._task.beats
        self._timer = self._clock.callLater(self._seconds, self._look)

    def end(self, result: T) -> T:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return result


def failed(text: str) -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    done.errback(TransientError(text))
    return done


def in_daemon_thread(work: Callable[[], None]) -> None:
    """Start one that does not keep the process alive."""
    threading.Thread(target=work, name="garbage", daemon=True).start()
