# -*- test-case-name: tests.unit.test_agent_detached -*-
"""Work that must go on although nobody waits for it, or nobody does any more."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")


def detach(work: Coroutine[Any, Any, None], log: Logger) -> None:
    """Start it; a failure is logged."""
    Deferred.fromCoroutine(work).addErrback(lambda failure: log.failure("detached work failed", failure))


def shielded(work: Coroutine[Any, Any, T], log: Logger) -> Deferred[T]:
    """Start it. Cancelling the Deferred that comes back ends the waiting, not the work: callers go away early."""
    left = False

    def leave(waiting: Deferred[T]) -> None:
        nonlocal left
        left = True

    def done(outcome: T | Failure) -> None:
        if not left:
            waiting.callback(outcome)
        elif isinstance(outcome, Failure):
            log.failure("work that nobody waits for any more failed", outcome)

    waiting: Deferred[T] = Deferred(leave)
    Deferred.fromCoroutine(work).addBoth(done)
    return waiting
