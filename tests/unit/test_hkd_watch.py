"""When an agent is there, and when it is dead."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from qvd.hkd.watch import WatchTimes, until_alive, until_dead
from tests.fakes.case import Case
from tests.fakes.guest import FakeGuest

TIMES = WatchTimes(boot=0.5, interval=5.0, failures=3)


class UntilAliveTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.guest = FakeGuest()

    def test_an_agent_that_answers_is_there(self) -> None:
        self.result(until_alive(self.clock, self.guest, TIMES))

    def test_it_is_asked_until_it_answers(self) -> None:
        self.guest.alive = False
        waiting = self.begin(until_alive(self.clock, self.guest, TIMES))
        self.clock.pump([0.5] * 10)
        assert self.guest.conduct.count("ping") == 11
        self.guest.alive = True
        assert self.waits(waiting)
        self.clock.advance(0.5)
        self.result(waiting)

    def test_giving_up_leaves_no_timer(self) -> None:
        self.guest.alive = False
        waiting = self.begin(until_alive(self.clock, self.guest, TIMES))
        waiting.cancel()
        self.failure(waiting, CancelledError)
        assert self.clock.getDelayedCalls() == []


class UntilDeadTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.guest = FakeGuest()
        self.seen = 0
        self.waiting = self.begin(until_dead(self.clock, self.guest, TIMES, self.saw))

    def saw(self) -> None:
        self.seen += 1

    def test_each_answer_is_told(self) -> None:
        assert self.guest.conduct.count("ping") == 0
        self.clock.pump([5.0] * 3)
        assert self.seen == 3
        assert self.waits(self.waiting)

    def test_so_many_silences_in_a_row_make_it_dead(self) -> None:
        self.guest.alive = False
        self.clock.pump([5.0, 5.0])
        assert self.waits(self.waiting)
        self.clock.advance(5)
        self.result(self.waiting)
        assert self.seen == 0

    def test_an_answer_in_between_starts_the_count_anew(self) -> None:
        for _ in range(3):
            self.guest.alive = False
            self.clock.pump([5.0, 5.0])
            self.guest.alive = True
            self.clock.advance(5)
        assert self.waits(self.waiting)
        assert self.seen == 3

    def test_a_slow_answer_delays_the_next_question(self) -> None:
        held = self.guest.conduct.hold("ping")
        self.clock.advance(5)
        self.clock.advance(60)
        assert self.guest.conduct.count("ping") == 1
        held.go_on()
        assert self.seen == 1

    def test_giving_up_leaves_no_timer(self) -> None:
        self.waiting.cancel()
        self.failure(self.waiting, CancelledError)
        assert self.clock.getDelayedCalls() == []
