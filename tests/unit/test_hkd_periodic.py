"""Turns: on time, on the bell, one at a time, whatever went wrong in the last."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.hkd.periodic import Periodic, observe
from qvd.model.errors import DatabaseUnavailable
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct


class PeriodicTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        self.periodic = Periodic(self.clock, 5.0, self.work, "counting sheep")
        self.at_once = 0
        self.most = 0

    async def work(self) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.conduct.before("work")
        finally:
            self.at_once -= 1

    @property
    def turns(self) -> int:
        return self.conduct.count("work")

    def test_the_first_turn_is_at_once_and_the_next_in_time(self) -> None:
        self.periodic.start()
        assert self.turns == 1
        self.clock.advance(4.9)
        assert self.turns == 1
        self.clock.advance(0.1)
        assert self.turns == 2

    def test_bells_are_heeded_from_start_to_stop(self) -> None:
        bells = FakeBells()
        self.periodic.heed(bells, "sheep")
        bells.ring("sheep")
        assert self.turns == 0
        self.periodic.start()
        bells.ring("sheep")
        bells.ring("wolves")
        assert self.turns == 2
        self.result(self.periodic.stop())
        bells.ring("sheep")
        assert self.turns == 2
        assert bells.heard("sheep") == 0

    def test_the_pause_begins_when_a_turn_has_ended(self) -> None:
        held = self.conduct.hold("work")
        self.periodic.start()
        self.clock.advance(60)
        assert self.turns == 1
        held.go_on()
        self.clock.advance(4.9)
        assert self.turns == 1
        self.clock.advance(0.1)
        assert self.turns == 2

    def test_a_bell_between_turns_runs_at_once_and_resets_the_pause(self) -> None:
        self.periodic.start()
        self.clock.advance(3)
        self.periodic.now()
        assert self.turns == 2
        self.clock.advance(4.9)
        assert self.turns == 2
        self.clock.advance(0.1)
        assert self.turns == 3

    def test_bells_during_a_turn_make_one_more_and_never_two_at_a_time(self) -> None:
        held = self.conduct.hold("work")
        self.periodic.start()
        self.periodic.now()
        self.periodic.now()
        assert self.turns == 1
        held.go_on()
        self.clock.advance(0)
        assert self.turns == 2
        self.clock.advance(4.9)
        assert self.turns == 2
        assert self.most == 1

    def test_a_bell_before_the_start_is_not_heard(self) -> None:
        self.periodic.now()
        assert self.turns == 0

    def test_an_expected_failure_is_told_and_the_next_turn_comes(self) -> None:
        self.conduct.fail("work", DatabaseUnavailable("away"))
        self.periodic.start()
        self.clock.advance(5)
        assert self.turns == 2
        assert self.logged(Exception) == 0

    def test_an_unexpected_failure_is_logged_with_its_traceback_and_the_next_turn_comes(self) -> None:
        self.conduct.fail("work", ZeroDivisionError("oops"))
        self.periodic.start()
        assert self.logged(ZeroDivisionError) == 1
        self.clock.advance(5)
        assert self.turns == 2

    def test_stop_between_turns_leaves_nothing(self) -> None:
        self.periodic.start()
        self.result(self.periodic.stop())
        assert self.clock.getDelayedCalls() == []
        self.periodic.now()
        assert self.turns == 1

    def test_stop_waits_for_the_present_turn_and_forgets_its_bells(self) -> None:
        held = self.conduct.hold("work")
        self.periodic.start()
        self.periodic.now()
        stopping = self.begin(self.periodic.stop())
        assert self.waits(stopping)
        assert not held.cancelled
        held.go_on()
        self.result(stopping)
        assert (self.turns, self.clock.getDelayedCalls()) == (1, [])

    def test_stop_during_a_turn_that_fails(self) -> None:
        held = self.conduct.hold("work")
        self.periodic.start()
        stopping = self.begin(self.periodic.stop())
        held.fail(DatabaseUnavailable("away"))
        self.result(stopping)

    def test_stop_before_the_start(self) -> None:
        self.result(self.periodic.stop())


class ObserveTests(Case):
    def test_it_fires_with_the_other(self) -> None:
        done: Deferred[None] = Deferred()
        first, second = observe(done), observe(done)
        assert self.waits(first)
        done.callback(None)
        self.result(first)
        self.result(second)
        self.result(observe(done))

    def test_cancelling_it_leaves_the_other_alone(self) -> None:
        done: Deferred[None] = Deferred()
        first, second = observe(done), observe(done)
        first.addErrback(lambda failure: None)
        first.cancel()
        assert not done.called
        done.callback(None)
        self.result(second)
