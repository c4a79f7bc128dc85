# -*- test-case-name: tests.unit.test_files_threads -*-
"""
Calls into a storage that may hang, in threads of their own.

A thread in a call that never returns cannot be ended. So these are not the reactor's, they do not keep the process
alive, and there are never more than so many: whoever comes then waits no longer than its deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class IThreadsReactor(IReactorFromThreads, IReactorTime):
    """What this needs of a reactor."""


def in_daemon_thread(reactor: IReactorFromThreads, work: Callable[[], T]) -> Deferred[T]:
    """In one that does not keep the process alive, and takes none of the reactor's, should it never end."""
    done: Deferred[T] = Deferred()

    def run() -> None:
        try:
            result = work()
        except BaseException:  # noqa: BLE001  whoever waits is to hear of it, whatever it is
            reactor.callFromThread(done.errback, Failure())  # type: ignore[no-untyped-call]
        else:
            reactor.callFromThread(done.callback, result)

    threading.Thread(target=run, name="storage", daemon=True).start()
    return done


class StorageThreads:
    """Work of many, one thing at a time for each.

    @param most: threads at a time.
    @param seconds: for one thing, with the wait for its turn.
    """

    def __init__(self, reactor: IThreadsReactor, most: int, seconds: float) -> None:
        self._reactor = reactor
        self._slots = DeferredSemaphore(most)
        self._seconds = seconds
        self._locks: dict[Hashable, DeferredLock] = {}

    def run(self, whose: Hashable, work: Callable[[], T]) -> Deferred[T]:
        """Do it when what was to be done for C{whose} before is through, even what nobody waits for any more.

        The result fails with L{twisted.internet.defer.TimeoutError} when it has taken too long. What had not begun by
        then is not done.
        """
        result: Deferred[T] = Deferred()

        def begin() -> Deferred[T | None]:
            return succeed(None) if result.called else in_daemon_thread(self._reactor, work)

        def hand_on(outcome: T | Failure | None) -> None:
            if not result.called:
                result.callback(outcome)  # type: ignore[arg-type]

        lock = self._locks.setdefault(whose, DeferredLock())
        done = lock.run(self._slots.run, begin)
        done.addBoth(hand_on)
        done.addBoth(lambda _: self._tidy(whose, lock))
        return result.addTimeout(self._seconds, self._reactor)

    def _tidy(self, whose: Hashable, lock: DeferredLock) -> None:
        if not lock.locked and not lock.waiting:
            self._locks.pop(whose, None)
