# -*- test-case-name: tests.unit.test_agent_power -*-
"""Turning the guest off. The node gets its answer first: the original's never came, so every stop was a hard one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.agent.detached import detach
from qvd.agent.hooks import Hooks
from qvd.agent.processes import IProcessRunner
from qvd.agent.xserver import XServer
from qvd.model.errors import QVDError, Unavailable
from qvd.model.settings import Settings
from qvd.protocols.adapters.rpc import Method

ANSWER_SECONDS = 0.1
"""For the answer to be on its way."""
END_SECONDS = 5.0
"""For the X session to end by itself."""
COMMAND_SECONDS = 30.0


class Power:
    """Power-off and reboot.

    @param leave: ends the agent, and so a sandbox; L{None} in a machine of its own, which has commands for it.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        settings: Settings,
        x_server: XServer,
        hooks: Hooks,
        runner: IProcessRunner,
        leave: Callable[[], None] | None,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._x_server = x_server
        self._hooks = hooks
        self._runner = runner
        self._leave = leave
        self._ordered = False

    def methods(self) -> Mapping[str, Method]:
        return {"poweroff": self.poweroff, "reboot": self.reboot}

    async def poweroff(self, parameters: Mapping[str, str]) -> None:
        """End the session, then the guest."""
        self._order("command.poweroff")

    async def reboot(self, parameters: Mapping[str, str]) -> None:
        """The same, and start it again.

        @raise Unavailable: a sandbox cannot.
        """
        if self._leave is not None:
            raise Unavailable("cannot reboot: stop and start the VM")
        self._order("command.reboot")

    def _order(self, key: str) -> None:
        """Once is enough."""
        if not self._ordered:
            self._ordered = True
            self._clock.callLater(ANSWER_SECONDS, lambda: detach(self._turn_off(key), self.log))

    async def _turn_off(self, key: str) -> None:
        """Nothing that fails on the way keeps the guest on."""
        try:
            await self._hooks.act("poweroff", {})
        except QVDError as error:
            self.log.warn("power-off goes on without its hook: {error}", error=error.text)
        await self._x_server.end(END_SECONDS)
        if self._leave is not None:
            self._leave()
            return
        try:
            await self._runner.run(self._command(key), COMMAND_SECONDS)
        except QVDError as error:
            self.log.error("{key}: {error}", key=key, error=error.text)
            # The node may try again, or end the guest from outside.
            self._ordered = False

    def _command(self, key: str) -> list[str]:
        """@raise Unavailable: the setting is no command."""
        try:
            words = shlex.split(self._settings.text(key))
        except ValueError as error:
            raise Unavailable(str(error)) from None
        if not words:
            raise Unavailable("no command")
        return words
