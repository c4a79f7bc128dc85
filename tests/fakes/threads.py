"""A reactor whose threads work when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

Report = Callable[[bool, Any], None]


class Threads:
    """A thread pool whose work ends when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[Callable[[], Any], Report]] = []

    def callInThreadWithCallback(self, report: Report, work: Callable[..., Any], *arguments: Any) -> None:
        self.begun.append((lambda: work(*arguments), report))

    def finish(self) -> None:
        work, report = self.begun.pop(0)
        try:
            result = work()
        except (OSError, ValueError):
            report(False, Failure())  # type: ignore[no-untyped-call]
        else:
            report(True, result)


class ThreadedReactor(MemoryReactorClock):
    """One whose threads' calls come at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pool = Threads()

    def getThreadPool(self) -> Any:
        return self.pool

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> None:
        f(*args, **kw)
