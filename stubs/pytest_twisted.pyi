"""Types of what we use of pytest-twisted, which has none."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

P = ParamSpec("P")
T = TypeVar("T")

def ensureDeferred(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]: ...
def async_fixture(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]: ...
def async_yield_fixture(function: Callable[P, AsyncIterator[T]]) -> Callable[P, T]: ...
def blockon(deferred: Deferred[T]) -> T: ...
