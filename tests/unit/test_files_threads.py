"""Threads for a storage that may hang."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import Clock

from qvd.hkd.files.threads import StorageThreads
from tests.fakes.case import Case


class HandingClock(Clock):
    """A clock that keeps what threads hand over."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Callable[[], object]] = []
        self.came = Event()

    def callFromThread(self, f: Callable[..., object], *arguments: object) -> None:
        self.handed.append(lambda: f(*arguments))
        self.came.set()

    def take(self) -> None:
        """The next thing that a thread hands over."""
        assert self.came.wait(30)
        self.came.clear()
        self.handed.pop(0)()


class StorageThreadsTests(Case):
    def setUp(self) -> None:
        self.clock = HandingClock()
        self.threads = StorageThreads(self.clock, 1, 20.0)  # type: ignore[arg-type]
        self.gate = Event()
        self.addCleanup(self.gate.set)
        self.did: list[str] = []

    def work(self, name: str) -> Callable[[], str]:
        def do() -> str:
            self.did.append(name)
            return name

        return do

    def hang(self) -> None:
        self.gate.wait()

    def test_result(self) -> None:
        done = self.threads.run("vm", self.work("a"))
        self.clock.take()
        assert self.result(done) == "a"

    def test_error(self) -> None:
        def fail() -> None:
            raise FileNotFoundError("x")

        done = self.threads.run("vm", fail)
        self.clock.take()
        self.failure(done, FileNotFoundError)

    def test_what_hangs_is_given_up_and_what_waits_for_it_too(self) -> None:
        first: Deferred[None] = self.threads.run("vm", self.hang)
        same, other = self.threads.run("vm", self.work("same")), self.threads.run("other", self.work("other"))
        self.clock.advance(20.0)
        for done in (first, same, other):
            self.failure(done, TimeoutError)
        # It comes back: what nobody waits for any more is not done.
        self.gate.set()
        self.clock.take()
        later = self.threads.run("vm", self.work("later"))
        self.clock.take()
        assert self.result(later) == "later"
        assert self.did == ["later"]
