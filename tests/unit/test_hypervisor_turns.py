"""Work in threads, in turn for each VM."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from qvd.hkd.hypervisor.turns import Turns
from qvd.model.ids import VMId
from tests.fakes.case import Case
from tests.fakes.threads import ThreadedReactor


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
