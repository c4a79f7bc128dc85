"""Work that hangs is given up, and told so when it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.testing import MemoryReactorClock

from qvd.hkd.garbage.worker import Beat, GivenUp, Worker
from qvd.model.errors import TransientError
from tests.fakes.case import Case


class Reactor(MemoryReactorClock):
    """One whose threads' calls come at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> None:
        f(*args, **kw)


class WorkerTests(Case):
    """L{Worker}, whose threads run when the test says so."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.threads: list[Callable[[], None]] = []
        self.worker = Worker(self.reactor, 10.0, self.threads.append)

    def test_work_that_ends(self) -> None:
        done = self.worker.run(lambda beat: 7)
        assert self.waits(done)
        self.threads.pop()()
        assert self.result(done) == 7
        assert self.reactor.getDelayedCalls() == []

    def test_work_that_fails(self) -> None:
        def work(beat: Beat) -> None:
            raise OSError("no")

        done = self.worker.run(work)
        self.threads.pop()()
        self.failure(done, OSError)
        assert self.result(self.run_another()) == 1

    def run_another(self) -> Any:
        done = self.worker.run(lambda beat: 1)
        self.threads.pop()()
        return done

    def test_work_that_hangs_is_given_up_and_hears_of_it(self) -> None:
        heard = []

        def work(beat: Beat) -> None:
            try:
                beat()
            except GivenUp:
                heard.append("undo")

        done = self.worker.run(work)
        self.reactor.advance(9.0)
        assert self.waits(done)
        self.reactor.advance(1.0)
        assert "does not answer" in self.failure(done, TransientError).text
        assert "still waits" in self.failure(self.worker.run(work), TransientError).text
        self.threads.pop()()
        assert heard == ["undo"]
        assert self.result(self.run_another()) == 1
        assert self.reactor.getDelayedCalls() == []

    def test_work_that_gets_on_may_take_its_time(self) -> None:
        beats: list[Beat] = []
        done = self.worker.run(beats.append)
        self.threads[0]()
        assert self.result(done) is None
        waiting = self.worker.run(beats.append)
        task = self.worker._busy
        assert task is not None
        for _ in range(5):
            task.beat()
            self.reactor.advance(9.0)
            assert self.waits(waiting)
        self.reactor.advance(10.0)
        self.reactor.advance(10.0)
        self.failure(waiting, TransientError)

    def test_work_that_nobody_waits_for(self) -> None:
        heard: list[str] = []

        def work(beat: Beat) -> None:
            try:
                beat()
            except GivenUp:
                heard.append("undo")
                raise

        done = self.worker.run(work)
        done.cancel()
        self.failure(done, CancelledError)
        self.threads.pop()()
        assert heard == ["undo"]
        assert self.reactor.getDelayedCalls() == []
