"""The agent's start and its end, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from qvd.agent.power import END_SECONDS
from qvd.agent.service import AgentService
from qvd.model.xsession import XEvent, XState
from qvd.protocols.adapters.rpc import RPCServerFactory
from tests.fakes.agent import MARKER, UP, Desk
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

HOOKS: Mapping[str, object] = {"vma.on_state.connected": "/on", "vma.on_state.disconnected": "/off"}


class SlowPort:
    """A port that closes when the test says so."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.closing = False

    def stopListening(self) -> Deferred[None]:
        self.closing = True
        return self.closed


class ServiceTests(Case):
    def setUp(self) -> None:
        # MemoryReactorClock's constructor has no types.
        self.reactor = cast(Any, MemoryReactorClock)()
        self.desk = Desk(self.reactor)
        self.runner = FakeRunner()
        self.factory = RPCServerFactory(self.reactor, MARKER.secret, {}, 20)
        self.marker = MARKER
        self.values: Mapping[str, object] = {}

    def service(self) -> AgentService:
        hooks = self.desk.hooks(self.runner, self.values)
        runner = cast(Any, self.runner)
        return AgentService(self.reactor, self.marker, self.factory, self.desk.x_server, hooks, runner)

    def started(self) -> AgentService:
        service = self.service()
        service.startService()
        return service

    def test_it_listens_where_the_driver_says(self) -> None:
        service = self.service()
        assert self.reactor.tcpServers == []
        service.startService()
        ((port, factory, _, interface),) = self.reactor.tcpServers
        assert (port, factory, interface) == (40123, self.factory, "127.0.0.1")

    def test_it_listens_on_all_interfaces_of_a_machine_of_its_own(self) -> None:
        self.marker = attrs.evolve(MARKER, driver="kvm", address="", vma_port=3030)
        self.started()
        ((port, _, _, interface),) = self.reactor.tcpServers
        assert (port, interface) == (3030, "")

    def test_without_its_port_it_does_not_start(self) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise cast(Any, CannotListenError)("127.0.0.1", 40123, OSError("in use"))

        self.values = HOOKS
        self.reactor.listenTCP = refuse
        with pytest.raises(CannotListenError):
            self.started()
        assert self.runner.ran == []

    def test_the_state_hooks_hear_of_the_beginning_and_of_each_change(self) -> None:
        self.values = HOOKS
        self.started()
        assert [argv[0] for argv in self.runner.ran] == ["/off"]
        self.desk.go(*UP)
        assert [argv[0] for argv in self.runner.ran] == ["/off", "/on"]

    def test_at_its_end_the_x_session_and_all_programs_end(self) -> None:
        service = self.started()
        self.desk.go(*UP)
        stopping = service.stopService()
        assert self.desk.programs.done[-1] == "terminate"
        assert self.waits(stopping)
        assert self.runner.ran == []
        self.desk.go(XEvent.EXITED)
        self.result(stopping)
        assert self.runner.ran == [["closed"]]
        assert self.reactor.getDelayedCalls() == []

    def test_one_that_does_not_end_does_not_hold_it_up(self) -> None:
        service = self.started()
        self.desk.go(*UP)
        stopping = service.stopService()
        self.reactor.advance(END_SECONDS)
        assert self.desk.programs.done[-1] == "kill"
        self.reactor.pump([1] * 10)
        self.result(stopping)
        assert self.runner.ran == [["closed"]]
        assert self.reactor.getDelayedCalls() == []

    def test_first_of_all_nobody_can_call_any_more(self) -> None:
        port = SlowPort()
        self.reactor.listenTCP = lambda *_, **__: port
        service = self.started()
        self.desk.go(*UP)
        stopping = service.stopService()
        assert port.closing
        assert self.desk.state() is XState.CONNECTED
        port.closed.callback(None)
        assert self.desk.state() is XState.STOPPING
        self.desk.go(XEvent.EXITED)
        self.result(stopping)

    def test_stopped_before_it_was_started(self) -> None:
        self.result(self.service().stopService())
        assert self.runner.ran == [["closed"]]
