"""Turning the guest off: the answer first, then the session's end, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping

from qvd.agent.power import ANSWER_SECONDS, END_SECONDS, Power
from qvd.model.errors import Unavailable
from qvd.model.xsession import XEvent, XState
from tests.fakes.agent import UP, Desk, settings
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

COMMANDS: Mapping[str, object] = {"command.poweroff": "/off '--no wall'", "command.reboot": "/again"}
HOOK: Mapping[str, object] = {"vma.on_action.poweroff": "/hook"}


class PowerCase(Case):
    def setUp(self) -> None:
        self.desk = Desk()
        self.clock = self.desk.clock
        self.runner = FakeRunner()
        self.left: list[XState] = []

    def power(self, values: Mapping[str, object] | None = None, *, sandboxed: bool = False) -> Power:
        chosen = settings({**COMMANDS, **(values or {})})
        hooks = self.desk.hooks(self.runner, values)
        leave = self.leave if sandboxed else None
        return Power(self.clock, chosen, self.desk.x_server, hooks, self.runner, leave)

    def leave(self) -> None:
        self.left.append(self.desk.state())

    def programs(self) -> list[str]:
        return [argv[0] for argv in self.runner.ran]


class MachineTests(PowerCase):
    def test_what_the_node_may_call(self) -> None:
        assert set(self.power().methods()) == {"poweroff", "reboot"}

    def test_the_answer_comes_first(self) -> None:
        self.result(self.power().poweroff({}))
        self.clock.advance(ANSWER_SECONDS / 2)
        assert self.runner.ran == []
        self.clock.advance(ANSWER_SECONDS / 2)
        assert self.runner.ran == [["/off", "--no wall"]]

    def test_reboot_has_a_command_of_its_own(self) -> None:
        self.result(self.power().reboot({}))
        self.clock.advance(ANSWER_SECONDS)
        assert self.programs() == ["/again"]

    def test_the_x_session_ends_before(self) -> None:
        self.desk.go(*UP)
        self.result(self.power().poweroff({}))
        self.clock.advance(ANSWER_SECONDS)
        assert self.desk.programs.done[-1] == "terminate"
        assert self.runner.ran == []
        self.desk.go(XEvent.EXITED)
        assert self.programs() == ["/off"]

    def test_one_that_does_not_end_is_killed_and_does_not_keep_the_guest_on(self) -> None:
        self.desk.go(*UP)
        self.result(self.power().poweroff({}))
        self.clock.advance(ANSWER_SECONDS)
        self.clock.advance(END_SECONDS)
        assert self.desk.programs.done[-1] == "kill"
        self.clock.pump([1] * 10)
        assert self.programs() == ["/off"]

    def test_the_hook_comes_before_all(self) -> None:
        self.desk.go(*UP)
        self.runner.slow = {"/hook"}
        self.result(self.power(HOOK).poweroff({}))
        self.clock.advance(ANSWER_SECONDS)
        assert self.programs() == ["/hook"]
        assert self.desk.state() is XState.CONNECTED
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.STOPPING

    def test_a_hook_that_fails_does_not_keep_the_guest_on(self) -> None:
        self.runner.failing = {"/hook"}
        self.result(self.power(HOOK).poweroff({}))
        self.clock.advance(ANSWER_SECONDS)
        assert self.programs() == ["/hook", "/off"]

    def test_ordered_twice_it_is_done_once(self) -> None:
        power = self.power()
        for _ in range(2):
            self.result(power.poweroff({}))
            self.result(power.reboot({}))
            self.clock.advance(ANSWER_SECONDS)
        assert self.programs() == ["/off"]

    def test_after_a_failure_it_may_be_ordered_again(self) -> None:
        self.runner.failing = {"/off"}
        power = self.power()
        for _ in range(2):
            self.result(power.poweroff({}))
            self.clock.advance(ANSWER_SECONDS)
        assert self.programs() == ["/off", "/off"]

    def test_a_command_that_is_none_may_be_mended_and_ordered_again(self) -> None:
        for nonsense in ("/off 'open", "", "  "):
            power = self.power({"command.poweroff": nonsense})
            self.result(power.poweroff({}))
            self.clock.advance(ANSWER_SECONDS)
            assert self.runner.ran == []
            self.result(power.reboot({}))
            self.clock.advance(ANSWER_SECONDS)
            assert self.runner.ran.pop() == ["/again"]


class SandboxTests(PowerCase):
    def test_the_agent_leaves_and_runs_no_command(self) -> None:
        self.desk.go(*UP)
        self.result(self.power(sandboxed=True).poweroff({}))
        self.clock.advance(ANSWER_SECONDS)
        assert self.left == []
        self.desk.go(XEvent.EXITED)
        assert self.left == [XState.STOPPED]
        assert self.runner.ran == []

    def test_it_cannot_reboot(self) -> None:
        error = self.failure(self.power(sandboxed=True).reboot({}), Unavailable)
        assert "stop and start the VM" in error.text
        self.clock.advance(ANSWER_SECONDS)
        assert self.left == []
