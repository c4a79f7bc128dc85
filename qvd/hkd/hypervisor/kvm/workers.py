# -*- test-case-name: tests.unit.test_kvm_workers -*-
"""
Threads for work that may hang: libvirt's calls, and storage.

They are not the reactor's, which so never runs out of its own; nobody waits for one longer than a deadline; and none of
them keeps the process alive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from qvd.model.errors import TransientError
from qvd.model.ids import VMId

T = TypeVar("T")


class IWorkersReactor(IReactorFromThreads, IReactorTime):
    """What is needed of a reactor."""


class Job(Generic[T]):
    """One piece of work.

    @ivar result: fires in the reactor, unless nobody waits any more.
    @ivar finished: fires when no thread is at it any more.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self.result: Deferred[T] = Deferred(lambda _: self.abandon())
        self.finished: Deferred[None] = Deferred()
        self._work = work
        self._abandoned = False

    def abandon(self) -> None:
        """Nobody waits for it. What has begun goes on."""
        self._abandoned = True

    def run(self, reactor: IReactorFromThreads) -> None:
        """In the thread."""
        outcome: T | Failure
        if self._abandoned:
            outcome = Failure(TransientError("It was not wanted any more"))  # type: ignore[no-untyped-call]
        else:
            try:
                outcome = self._work()
            except Exception:  # noqa: BLE001
                outcome = Failure()  # type: ignore[no-untyped-call]
        reactor.callFromThread(self._done, outcome)

    def _done(self, outcome: T | Failure) -> None:
        if not self._abandoned:
            self.result.callback(outcome)
        self.finished.callback(None)


class Workers:
    """A few threads, started when they are needed.

    @param what: what does not answer when a deadline passes: begins a sentence.
    @param most: threads at once.
    """

    def __init__(self, reactor: IWorkersReactor, what: str, most: int) -> None:
        self._reactor = reactor
        self._what = what
        self._most = most
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._locks: dict[VMId, DeferredLock] = {}

    async def run(self, seconds: float, work: Callable[[], T], turn: VMId | None = None) -> T:
        """Run C{work} in a thread.

        @param seconds: for all of it, waiting included.
        @param turn: a VM whose earlier work, even work that nobody waits for, is to be through first.
        @raise TransientError: it took longer.
        """
        result = self.begin(work, turn).addTimeout(seconds, self._reactor)
        try:
            return await result
        except TimeoutError:
            raise TransientError(f"{self._what} did not answer in {seconds:g} seconds") from None

    def begin(self, work: Callable[[], T], turn: VMId | None = None) -> Deferred[T]:
        """The same, without a deadline. Cancelling the result leaves the thread to itself."""
        job = Job(work)
        if turn is None:
            self._put(job)
        else:
            self._in_turn(turn, job)
        return job.result

    def close(self) -> None:
        """End the threads that are not at work, and the others after it."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _in_turn(self, vm_id: VMId, job: Job[T]) -> None:
        lock = self._locks.setdefault(vm_id, DeferredLock())

        def begin() -> Deferred[None]:
            self._put(job)
            return job.finished

        def tidy(_: object) -> None:
            if not lock.locked and not lock.waiting:
                self._locks.pop(vm_id, None)

        lock.run(begin).addBoth(tidy)

    def _put(self, job: Job[T]) -> None:
        self._busy += 1
        job.finished.addCallback(self._less)
        self._jobs.put(job)  # type: ignore[arg-type]
        if self._threads < min(self._busy, self._most):
            self._threads += 1
            threading.Thread(target=self._work, name=self._what, daemon=True).start()

    def _less(self, _: None) -> None:
        self._busy -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._reactor)
