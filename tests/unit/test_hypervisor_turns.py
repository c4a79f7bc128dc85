"""Work in threads, in turn for each VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from qvd.hkd.hypervisor.turns import Turns
from qvd.model.ids import VMId
from tests.fakes.case import Case

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
        except ValueError:
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


class TurnsTests(Case):
    """One at a time, also when nobody waits for it any more."""

    def setUp(self) -> None:
        self.reactor = ThreadedReactor()
        self.turns = Turns(self.reactor)  # type: ignore[arg-type]

    def test_result(self) -> None:
        result = self.turns.run(VMId(1), str.upper, "done")
        assert self.waits(result)
        self.reactor.pool.finish()
        assert self.result(result) == "DONE"

    def test_failure(self) -> None:
        result = self.turns.run(VMId(1), int, "x")
        self.reactor.pool.finish()
        self.failure(result, ValueError)

    def test_in_turn(self) -> None:
        self.turns.run(VMId(1), str, "first")
        second = self.turns.run(VMId(1), str, "second")
        self.turns.run(VMId(2), str, "another's")
        assert len(self.reactor.pool.begun) == 2
        self.reactor.pool.finish()
        self.reactor.pool.finish()
        self.reactor.pool.finish()
        assert self.result(second) == "second"

    def test_after_a_failure(self) -> None:
        self.failed = self.turns.run(VMId(1), int, "x")
        second = self.turns.run(VMId(1), str, "second")
        self.reactor.pool.finish()
        self.failure(self.failed, ValueError)
        self.reactor.pool.finish()
        assert self.result(second) == "second"

    def test_cancelled(self) -> None:
        """The thread goes on, so the next one waits; its failure is nobody's."""
        first = self.turns.run(VMId(1), int, "x")
        second = self.turns.run(VMId(1), str, "second")
        first.cancel()
        self.failure(first, CancelledError)
        assert len(self.reactor.pool.begun) == 1
        self.reactor.pool.finish()
        assert len(self.reactor.pool.begun) == 1
        self.reactor.pool.finish()
        assert self.result(second) == "second"
        assert self.logged(Exception) == 0

    def test_no_memory_of_vms_that_are_through(self) -> None:
        for number in range(3):
            self.turns.run(VMId(number), str)
        for _ in range(3):
            self.reactor.pool.finish()
        assert self.turns._locks == {}
