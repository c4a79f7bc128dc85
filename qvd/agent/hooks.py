# -*- test-case-name: tests.unit.test_agent_hooks -*-
"""
Programs of the image's maker that are run at certain points.

Their arguments are pairs of key and value, as the original has them, but for what must not show in a process list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.logger import Logger

from qvd.agent.detached import detach
from qvd.agent.processes import IProcessRunner
from qvd.model.errors import QVDError
from qvd.model.settings import Settings
from qvd.model.xsession import XState

DEADLINE = 60.0
SECRETS = frozenset({"auth_token", "qvd.slave.key"})
ACTION_KEYS = {"pre_connect": "pre-connect"}
"""Where the name that a hook is told differs from that of its key."""
STATE_KEYS = {
    XState.CONNECTED: "vma.on_state.connected",
    XState.SUSPENDED: "vma.on_state.suspended",
    XState.STOPPED: "vma.on_state.disconnected",
}
MOST_WAITING = 16

Pairs = Mapping[str, str]


class Hooks:
    """The configured hooks.

    @param state: the X session's state, which action hooks are told.
    """

    log = Logger()

    def __init__(self, runner: IProcessRunner, settings: Settings, state: Callable[[], XState]) -> None:
        self._runner = runner
        self._settings = settings
        self._state = state
        self._waiting: list[XState] = []

    async def act(self, name: str, parameters: Pairs) -> bool:
        """Run the action hook C{name}.

        @return: whether there is one.
        @raise QVDError: it failed: what it belongs to must not go on.
        """
        key = f"vma.on_action.{ACTION_KEYS.get(name, name)}"
        last = ["qvd.vm.session.state", self._state().value, "qvd.hook.on_action", name]
        return await self._run(key, [*arguments(parameters), *last])

    async def provision(self, name: str, parameters: Pairs) -> bool:
        """Run the provisioning hook C{name}; as L{act}."""
        key = f"vma.on_provisioning.{name}"
        return await self._run(key, [*arguments(parameters), "qvd.hook.on_provisioning", name])

    def report(self, state: XState) -> None:
        """Run the hook of a state, one after the other, with nobody waiting. A client that comes and goes quickly does
        not pile them up: beyond a bound they are left out."""
        key = STATE_KEYS.get(state)
        if key is None or not self._settings.text(key):
            return
        if len(self._waiting) >= MOST_WAITING:
            self.log.warn("hook {key}: too many are waiting; left out", key=key)
            return
        self._waiting.append(state)
        if len(self._waiting) == 1:
            detach(self._report_all(), self.log)

    async def _report_all(self) -> None:
        while self._waiting:
            state = self._waiting[0]
            try:
                await self._run(STATE_KEYS[state], ["qvd.hook.on_state", state.value])
            except QVDError as error:
                self.log.warn("hook of state {state}: {error}", state=state.value, error=error.text)
            finally:
                self._waiting.pop(0)

    async def _run(self, key: str, pairs: Sequence[str]) -> bool:
        program = self._settings.text(key)
        if not program:
            return False
        await self._runner.run([program, *pairs], DEADLINE)
        return True


def arguments(parameters: Pairs) -> list[str]:
    """Parameters as arguments, in a certain order, without secrets."""
    shown = ((key, value) for key, value in sorted(parameters.items()) if key not in SECRETS)
    return [clean(word) for pair in shown for word in pair]


def clean(word: str) -> str:
    """An argument cannot hold a null character."""
    return word.replace("\0", "")
