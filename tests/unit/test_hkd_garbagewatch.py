"""When a node collects garbage by itself."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.hkd.collector import Report
from qvd.hkd.garbagewatch import SOON, GarbageParts, GarbageWatch
from qvd.model.errors import Conflict, TransientError
from tests.fakes.case import Case

DAY = 86400.0


class GarbageWatchTests(Case):
    """L{GarbageWatch}, whose runs end when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.runs: list[Deferred[Report]] = []
        self.cancelled: list[bool] = []
        self.watch = GarbageWatch(self.clock, GarbageParts(self.collect, DAY))
        self.watch.start()

    async def collect(self) -> Report:
        run: Deferred[Report] = Deferred(lambda _: self.cancelled.append(True))
        self.runs.append(run)
        return await run

    def test_not_at_once_and_then_every_day(self) -> None:
        assert self.runs == []
        self.clock.advance(DAY / SOON)
        assert len(self.runs) == 1
        self.clock.advance(DAY)
        # The first one is not over.
        assert len(self.runs) == 1
        self.runs[0].callback(Report(()))
        self.clock.advance(DAY - 1)
        assert len(self.runs) == 1
        self.clock.advance(1)
        assert len(self.runs) == 2

    def test_a_failure_is_no_end(self) -> None:
        self.clock.advance(DAY / SOON)
        errors = [Conflict("another node"), TransientError("the storage does not answer"), RuntimeError("a bug")]
        for number, error in enumerate(errors):
            self.runs[number].errback(error)
            self.clock.advance(DAY / SOON)
            assert len(self.runs) == number + 2
        assert self.logged(RuntimeError) == 1

    def test_a_stop_waits_for_nothing(self) -> None:
        self.result(self.watch.stop())
        assert self.clock.getDelayedCalls() == []

    def test_a_stop_gives_the_run_up(self) -> None:
        self.clock.advance(DAY / SOON)
        self.result(self.watch.stop())
        assert self.cancelled == [True]
        assert self.clock.getDelayedCalls() == []
