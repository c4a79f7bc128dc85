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
        self.reading: list[str] = []

    def fileno(self) -> int:
        return 17

    def stopReading(self) -> None:
        self.reading.append("stop")

    def startReading(self) -> None:
        self.reading.append("start")

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8443)

    def stopListening(self) -> Deferred[None]:
        self.asked += 1
        return self.closed


class ListenerTests(Case):
    def test_it_opens_on_start_and_waits_for_the_end(self) -> None:
        port = FakePort()
        opened: list[Any] = []

        def open_port(inherited: int | None) -> IListeningPort:
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
        def taken(inherited: int | None) -> IListeningPort:
            raise OSError("taken")

        listener = Listener(taken, "clients are served")
        self.failure(listener.start(), OSError)
        self.result(listener.stop())

    def test_a_pause_leaves_it_open(self) -> None:
        port = FakePort()
        listener = Listener(lambda inherited: cast(IListeningPort, port), "clients are served")
        self.result(listener.start())
        assert listener.is_open
        assert listener.pause() == 17
        assert port.reading == ["stop"]
        listener.resume()
        assert port.reading == ["stop", "start"]
        assert port.asked == 0

    def test_an_inherited_socket_is_used_once(self) -> None:
        given: list[int | None] = []

        def open_port(inherited: int | None) -> IListeningPort:
            given.append(inherited)
            port = FakePort()
            port.closed.callback(None)
            return cast(IListeningPort, port)

        listener = Listener(open_port, "clients are served")
        listener.inherited = 5
        self.result(listener.start())
        self.result(listener.stop())
        self.result(listener.start())
        assert given == [5, None]


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
