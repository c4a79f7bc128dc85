"""pytest-twisted's decorators by shorter names; running things beside a test, and waiting for them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

T = TypeVar("T")
# Run an C{async def} test on the reactor; and an C{async def} fixture that yields once.
asynchronous = pytest_twisted.ensureDeferred
asynchronous_fixture = pytest_twisted.async_yield_fixture
PATIENCE = 60.0


def spawn(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Let it run beside the test."""
    return Deferred.fromCoroutine(coroutine)


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor turn."""
    return deferLater(reactor, seconds)


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until C{condition()} is true; fail after a time that no healthy run needs."""
    ends = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < ends, f"{what} did not come about"
        await pause(0.01)
