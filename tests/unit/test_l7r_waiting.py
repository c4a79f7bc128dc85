"""News of a VM: by the bell, or by the clock."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from qvd.l7r.waiting import VMNews
from qvd.model.ids import VMId
from qvd.protocols.channels import vm_changed
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case


class VMNewsTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bells = FakeBells()
        self.news = VMNews(self.clock, self.bells)

    def tearDown(self) -> None:
        assert self.clock.getDelayedCalls() == []

    async def look(self, vm_id: int, seconds: float) -> None:
        with self.news.watch(VMId(vm_id)) as news:
            await news.wait(seconds)

    def wait(self, vm_id: int, seconds: float = 2.0) -> Deferred[None]:
        return self.begin(self.follow(vm_id, [seconds]))

    async def follow(self, vm_id: int, waits: list[float]) -> None:
        """Wait as often, one after the other."""
        with self.news.watch(VMId(vm_id)) as news:
            for seconds in waits:
                await news.wait(seconds)

    def test_the_bell_wakes_those_who_wait_for_the_vm(self) -> None:
        first, second, other = self.wait(9), self.wait(9), self.wait(8)
        self.bells.ring(vm_changed(), "9")
        self.result(first)
        self.result(second)
        assert self.waits(other)
        self.clock.advance(2)
        self.result(other)

    def test_a_bell_without_a_name_wakes_all(self) -> None:
        first, other = self.wait(9), self.wait(8)
        self.bells.reconnected()
        self.result(first)
        self.result(other)

    def test_a_bell_that_makes_no_sense_wakes_all(self) -> None:
        first = self.wait(9)
        self.bells.ring(vm_changed(), "nine")
        self.result(first)

    def test_the_clock_wakes_too(self) -> None:
        waiting = self.wait(9)
        self.clock.advance(1.5)
        assert self.waits(waiting)
        self.clock.advance(0.5)
        self.result(waiting)

    def test_each_wait_is_over_once(self) -> None:
        waiting = self.wait(9)
        self.bells.ring(vm_changed(), "9")
        self.bells.ring(vm_changed(), "9")
        self.clock.advance(5)
        self.result(waiting)

    def test_who_wakes_up_may_wait_again(self) -> None:
        waiting, other = self.begin(self.follow(9, [2, 2])), self.wait(9)
        self.bells.ring(vm_changed(), "9")
        self.result(other)
        assert self.waits(waiting)
        self.bells.ring(vm_changed(), "9")
        self.result(waiting)

    def test_giving_up_leaves_nothing(self) -> None:
        waiting = self.wait(9)
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.bells.ring(vm_changed(), "9")
        self.bells.reconnected()

    def test_after_the_stop_the_clock_still_wakes(self) -> None:
        waiting = self.wait(9)
        self.news.stop()
        assert self.bells.heard(vm_changed()) == 0
        self.clock.advance(2)
        self.result(waiting)

    def test_a_bell_between_two_waits_is_not_missed(self) -> None:
        with self.news.watch(VMId(9)) as news:
            self.bells.ring(vm_changed(), "8")
            self.bells.ring(vm_changed(), "9")
            self.result(news.wait(2))
            second = self.begin(news.wait(2))
            assert self.waits(second)
            self.clock.advance(2)
            self.result(second)

    def test_the_clock_is_no_bell(self) -> None:
        with self.news.watch(VMId(9)) as news:
            first = self.begin(news.wait(2))
            self.clock.advance(2)
            self.result(first)
            second = self.begin(news.wait(2))
            assert self.waits(second)
            self.bells.ring(vm_changed(), "9")
            self.result(second)
