"""Work goes on whoever waits."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from qvd.agent.detached import detach, shielded
from qvd.model.errors import Unavailable
from tests.fakes.case import Case


class DetachedTests(Case):
    log = Logger()

    def setUp(self) -> None:
        self.signal: Deferred[str] = Deferred()
        self.came_to: list[str] = []

    async def work(self) -> str:
        self.came_to.append(await self.signal)
        return "done"

    async def nothing(self) -> None:
        await self.work()

    def test_it_runs_by_itself(self) -> None:
        detach(self.nothing(), self.log)
        self.signal.callback("here")
        assert self.came_to == ["here"]

    def test_its_failure_is_logged(self) -> None:
        detach(self.nothing(), self.log)
        self.signal.errback(Unavailable("no"))
        assert self.logged(Unavailable) == 1

    def test_who_waits_gets_the_outcome(self) -> None:
        waiting = shielded(self.work(), self.log)
        assert self.waits(waiting)
        self.signal.callback("here")
        assert self.result(waiting) == "done"

    def test_who_waits_gets_the_failure(self) -> None:
        waiting = shielded(self.work(), self.log)
        self.signal.errback(Unavailable("no"))
        self.failure(waiting, Unavailable)

    def test_who_leaves_does_not_end_it(self) -> None:
        waiting = shielded(self.work(), self.log)
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.signal.callback("here")
        assert self.came_to == ["here"]

    def test_a_failure_after_that_is_logged(self) -> None:
        waiting = shielded(self.work(), self.log)
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.signal.errback(Unavailable("no"))
        assert self.logged(Unavailable) == 1
