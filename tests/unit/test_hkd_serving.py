"""Parts made of functions, and listening ports."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

from qvd.hkd.serving import Listener, Steps
from tests.fakes.case import Case


class FakePort:
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.asked = 0

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8443)

    def stopListening(self) -> Deferred[None]:
        self.asked += 1
        return self.closed


class ListenerTests(Case):
    def test_it_opens_on_start_and_waits_for_the_end(self) -> None:
        port = FakePort()
        opened: list[Any] = []

        def open_port() -> IListeningPort:
            opened.append(port)
            return cast(IListeningPort, port)

        listener = Listener(open_port, "clients are served")
        assert opened == []
        self.result(listener.start())
        stopping = self.begin(listener.stop())
        assert self.waits(stopping)
        port.closed.callback(None)
        self.result(stopping)
        self.result(listener.stop())
        assert port.asked == 1

    def test_a_port_that_is_taken(self) -> None:
        def taken() -> IListeningPort:
            raise OSError("taken")

        listener = Listener(taken, "clients are served")
        self.failure(listener.start(), OSError)
        self.result(listener.stop())


class StepsTests(Case):
    def test_functions_that_return_nothing(self) -> None:
        told: list[str] = []
        steps = Steps(lambda: told.append("start"), lambda: told.append("stop"))
        self.result(steps.start())
        self.result(steps.stop())
        assert told == ["start", "stop"]

    def test_functions_that_take_their_time(self) -> None:
        started: Deferred[None] = Deferred()
        starting = self.begin(Steps(lambda: started, lambda: None).start())
        assert self.waits(starting)
        started.callback(None)
        self.result(starting)

    def test_functions_that_fail(self) -> None:
        def fail() -> None:
            raise ValueError("oops")

        self.failure(Steps(fail, fail).start(), ValueError)
        self.failure(Steps(fail, fail).stop(), ValueError)
