# -*- test-case-name: tests.unit.test_agent_awaited -*-
"""The agent of a guest that learns from its node, after its boot, which VM it is."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.agent.channel import NodeChannel
from qvd.agent.power import Power
from qvd.agent.service import AgentService
from qvd.model.errors import SettingsError


@frozen
class Agent:
    """What the node may order: calls to the service, and the power off where it is asked from below."""

    service: AgentService
    power: Power


class AwaitedAgent(MultiService):
    """Starts the agent when the marker has come through the channel.

    @param make: makes the agent of a marker; raises L{SettingsError} for one that is wrong.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, path: str, make: Callable[[dict[str, object]], Agent]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make = make
        self._agent: Agent | None = None
        self._channel = NodeChannel(clock, path, self._marked, self._power_off)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self.log.info("waiting for the node to say which VM this is")
        self._channel.start()

    def stopService(self) -> object:
        self._channel.stop()
        return super().stopService()  # type: ignore[no-untyped-call]

    def _marked(self, table: dict[str, object]) -> None:
        try:
            self._agent = self._make(table)
        except SettingsError as error:
            self.log.error("what the node says of this VM is wrong: {reason}", reason=error.text)
            return
        self._agent.service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def _power_off(self) -> None:
        if self._agent is None:
            self.log.warn("a power-off was ordered before there was an agent")
            return
        self._agent.power.order_off()
