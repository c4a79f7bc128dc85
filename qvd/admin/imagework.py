# -*- test-case-name: tests.admin.test_imports -*-
"""Work on image files: in threads of its own, so that a storage that hangs takes nobody else's; and beside requests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from qvd.admin.problems import Problem
from qvd.model.errors import QVDError

P = ParamSpec("P")
T = TypeVar("T")


class Closes(Protocol):
    """An open file."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closes)
THREADS = 8
log = Logger()


def make_pool() -> ThreadPool:
    return ThreadPool(0, THREADS, "images")


@define
class ImageWork:
    """Made at the start of the service, and stopped at its end.

    @ivar stopping: the service ends.
    """

    reactor: Any
    stopping: bool = False
    _pool: ThreadPool = field(factory=make_pool)
    _running: set[Deferred[Any]] = field(factory=set)

    def start(self) -> None:
        """Begin."""
        self._pool.start()

    async def stop(self) -> None:
        """End what runs beside requests, and wait for the threads. A second time is no harm."""
        if self.stopping:
            return
        self.stopping = True
        running = list(self._running)
        for each in running:
            each.cancel()
        await DeferredList(running, consumeErrors=True)
        await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), self._pool.stop)

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """In a thread. To cancel what this returns does not end the thread: use L{apart} around what closes files."""
        return deferToThreadPool(self.reactor, self._pool, work, *args, **kwargs)

    def spawn(self, what: str, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Beside a request. A failure that nobody waits for is logged."""
        done = Deferred.fromCoroutine(work)
        if not done.called:
            self._running.add(done)
        return done.addBoth(self._through, done, what)

    def _through(self, result: Any, done: Deferred[Any], what: str) -> Any:
        self._running.discard(done)
        return result

    async def open(self, work: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
        """In a thread, what opens a file. Where nobody waits for it any more, the file is closed again."""

        async def opening() -> C:
            return await self.run(work, *args, **kwargs)

        def close(file: C) -> None:
            self.run(file.close).addErrback(told, "closing a file")

        return await self.apart("opening a file", opening(), close)

    async def apart(
        self, what: str, work: Coroutine[Any, Any, T], unwanted: Callable[[T], object] = lambda result: None
    ) -> T:
        """Wait for work that goes on to its end, even if the waiting is cancelled.

        @param unwanted: called with the result then.
        """
        waiting: Deferred[T] = Deferred()
        done = self.spawn(what, work)

        def hand_on(result: T | Failure) -> None:
            if not waiting.called:
                waiting.callback(result)
            elif isinstance(result, Failure):
                told(result, what)
            else:
                unwanted(result)

        done.addBoth(hand_on)
        return await waiting

    @property
    def idle(self) -> bool:
        """Nothing runs."""
        return not self._running


def told(failure: Failure, what: str) -> None:
    """Log a failure that nobody else hears of."""
    if isinstance(failure.value, CancelledError):
        return
    if isinstance(failure.value, QVDError):
        log.warn("{what}: {text}", what=what, text=failure.value.text)
    elif isinstance(failure.value, Problem):
        # An answer to a client that is gone.
        log.debug("{what}: {text}", what=what, text=failure.value.detail)
    else:
        log.failure("{what} failed", failure=failure, what=what)
