"""Which hook is run when, and with what."""

from __future__ import annotations

from collections.abc import Mapping

from qvd.agent.hooks import MOST_WAITING, Hooks
from qvd.model.errors import Unavailable
from qvd.model.settings import Settings, parse
from qvd.model.settings_vma import VMA_KEYS
from qvd.model.xsession import XState
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

PARAMETERS = {"qvd.vm.user.name": "alice", "auth_token": "canary", "qvd.slave.key": "canary", "a": "b\0c"}


def settings(values: Mapping[str, object]) -> Settings:
    return parse(values, VMA_KEYS, "vma.conf")


class HookTests(Case):
    def setUp(self) -> None:
        self.runner = FakeRunner()
        self.state = XState.SUSPENDED

    def hooks(self, **programs: str) -> Hooks:
        values = {
            f"vma.on_{key.replace('__', '.').replace('pre_connect', 'pre-connect')}": p for key, p in programs.items()
        }
        return Hooks(self.runner, settings(values), lambda: self.state)

    def test_without_a_program_nothing_is_run(self) -> None:
        assert not self.result(self.hooks().act("connect", PARAMETERS))
        assert not self.result(self.hooks().provision("add_user", PARAMETERS))
        self.hooks().report(XState.CONNECTED)
        assert self.runner.ran == []

    def test_an_action_is_told_parameters_state_and_name_but_no_secret(self) -> None:
        done = self.result(self.hooks(action__pre_connect="/hook").act("pre_connect", PARAMETERS))
        assert done
        last = ["qvd.vm.session.state", "suspended", "qvd.hook.on_action", "pre_connect"]
        assert self.runner.ran == [["/hook", "a", "bc", "qvd.vm.user.name", "alice", *last]]

    def test_provisioning_likewise(self) -> None:
        self.result(self.hooks(provisioning__add_user="/hook").provision("add_user", {"a": "b"}))
        assert self.runner.ran == [["/hook", "a", "b", "qvd.hook.on_provisioning", "add_user"]]

    def test_one_that_fails_fails_its_action(self) -> None:
        self.runner.failing = {"/hook"}
        self.failure(self.hooks(action__stop="/hook").act("stop", {}), Unavailable)

    def test_states_have_hooks(self) -> None:
        hooks = self.hooks(state__connected="/on", state__suspended="/asleep", state__disconnected="/off")
        for state in XState:
            hooks.report(state)
        programs = {run[0]: run[1:] for run in self.runner.ran}
        assert programs == {
            "/on": ["qvd.hook.on_state", "connected"],
            "/asleep": ["qvd.hook.on_state", "suspended"],
            "/off": ["qvd.hook.on_state", "stopped"],
        }

    def test_states_wait_for_each_other_and_survive_a_failure(self) -> None:
        self.runner.slow = self.runner.failing = {"/on"}
        hooks = self.hooks(state__connected="/on", state__suspended="/asleep")
        hooks.report(XState.CONNECTED)
        hooks.report(XState.SUSPENDED)
        assert [run[0] for run in self.runner.ran] == ["/on"]
        self.runner.waiting[0].callback(None)
        assert [run[0] for run in self.runner.ran] == ["/on", "/asleep"]
        hooks.report(XState.SUSPENDED)
        assert len(self.runner.ran) == 3

    def test_states_do_not_pile_up(self) -> None:
        self.runner.slow = {"/on"}
        hooks = self.hooks(state__connected="/on")
        for _ in range(3 * MOST_WAITING):
            hooks.report(XState.CONNECTED)
        assert len(self.runner.ran) == 1
        for number in range(MOST_WAITING):
            self.runner.waiting[number].callback(None)
        assert len(self.runner.ran) == MOST_WAITING
