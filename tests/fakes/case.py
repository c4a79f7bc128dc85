"""A test case without a reactor, typed."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Case(SynchronousTestCase):
    """Looks at coroutines and Deferreds as they are now. Logged failures that no test asks for fail it."""

    def begin(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Let it run as far as it goes. What waits when the test is over is cancelled: a coroutine that nobody ends
        would be ended while another test runs, whenever its memory is wanted."""
        begun = Deferred.fromCoroutine(work)
        self.addCleanup(self._end, begun)
        return begun

    def _end(self, begun: Deferred[Any]) -> None:
        if not begun.called:
            begun.addErrback(lambda failure: None)
            begun.cancel()

    def result(self, work: Coroutine[Any, Any, T] | Deferred[T]) -> T:
        """What it has come to by now."""
        done = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        return self.successResultOf(done)

    def failure(self, work: Coroutine[Any, Any, Any] | Deferred[Any], kind: type[E]) -> E:
        """The error it has failed with by now."""
        done = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        error: E = self.failureResultOf(done, kind).value  # type: ignore[no-untyped-call]
        return error

    def waits(self, work: Deferred[Any]) -> bool:
        """It is not over yet."""
        return not work.called or bool(work.paused)

    def logged(self, kind: type[Exception]) -> int:
        """How many failures of that kind were logged; they do not fail the test then."""
        return len(self.flushLoggedErrors(kind))  # type: ignore[no-untyped-call]
