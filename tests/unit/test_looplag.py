"""The measure of a reactor that is kept from turning."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tests.fakes.case import Case
from tests.fakes.looplag import INTERVAL, LoopLag


class LoopLagTests(Case):
    """L{LoopLag}, over a clock that turns when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()

    def test_a_loop_that_turns(self) -> None:
        with LoopLag(self.clock) as lag:
            self.clock.pump([INTERVAL] * 20)
        assert abs(lag.largest - 0.0) < 1e-9
        assert lag.beats == 20
        assert self.clock.getDelayedCalls() == []

    def test_a_loop_that_stood(self) -> None:
        with LoopLag(self.clock) as lag:
            self.clock.advance(INTERVAL)
            self.clock.advance(INTERVAL + 0.5)
            self.clock.advance(INTERVAL)
        assert abs(lag.largest - 0.5) < 1e-9
        assert str(lag) == "largest lag of the loop: 500.0 ms in 3 beats"

    def test_a_loop_that_stood_to_the_end(self) -> None:
        with LoopLag(self.clock) as lag:
            self.clock.rightNow += INTERVAL + 2.0
        assert abs(lag.largest - 2.0) < 1e-9
        assert lag.beats == 0

    def test_turns_that_are_waited_for(self) -> None:
        with LoopLag(self.clock) as lag:
            waiting, longer = lag.turned(2), lag.turned(5)
            self.clock.advance(INTERVAL)
            assert self.waits(waiting)
            self.clock.advance(INTERVAL)
            self.result(waiting)
            assert self.waits(longer)
        self.failure(longer, CancelledError)
