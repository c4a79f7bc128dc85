# -*- test-case-name: tests.unit.test_agent_service -*-
"""Ordered start and stop of the agent."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP
from twisted.logger import Logger

from qvd.agent.channel import NodeOrders
from qvd.agent.hooks import Hooks
from qvd.agent.marker import GuestMarker
from qvd.agent.power import END_SECONDS
from qvd.agent.processes import ProcessRunner
from qvd.agent.xserver import XServer
from qvd.protocols.adapters.rpc import RPCServerFactory


class AgentService(Service):
    """Listens for the node while it runs; takes the X session with it when it ends.

    @param orders: what the node says on the machine's own port; L{None}: there is none.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTCP,
        marker: GuestMarker,
        factory: RPCServerFactory,
        x_server: XServer,
        hooks: Hooks,
        runner: ProcessRunner,
        orders: NodeOrders | None = None,
    ) -> None:
        self._reactor = reactor
        self._marker = marker
        self._factory = factory
        self._x_server = x_server
        self._hooks = hooks
        self._runner = runner
        self._orders = orders
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        marker = self._marker
        self._port = self._reactor.listenTCP(marker.vma_port, self._factory, interface=marker.address)  # type: ignore[arg-type]
        self.log.info("agent of VM {vm_id} ({driver}) is ready", vm_id=marker.vm_id, driver=marker.driver)
        self._x_server.observe(self._hooks.report)
        self._hooks.report(self._x_server.state)
        if self._orders is not None:
            self._orders.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._orders is not None:
            self._orders.stop()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        await self._x_server.end(END_SECONDS)
        self._runner.close()
