# -*- test-case-name: tests.contract.test_sim_driver -*-
"""
Simulated guests that listen for real, for C{vm.hypervisor = "simulated"}: load tests of real nodes without hypervisors.

They live in the daemon, and die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.interfaces import IDeadline
from qvd.model.errors import GuestError
from qvd.model.records import Guest, Lease
from qvd.protocols.adapters.rpc import Method, RPCServerFactory
from qvd.sim.behaviour import Behaviours, Chances, Drawn, GuestTimes, Shape, Spread
from qvd.sim.driver import SimulatedDriver, SimulatedMachine
from qvd.sim.guests import SILENT, Life, Network, SimulatedGuest
from qvd.sim.observer import Observer
from qvd.sim.wires import greeting

LOOPBACK = "127.0.0.1"
RPC_SECONDS = 30.0
LOAD_TEST = GuestTimes(prepare=Spread(Shape.FIXED, 0.1), boot=Spread(Shape.UNIFORM, 1.0, 3.0))
"""How long guests take, until somebody wants it to be a setting."""


class NXProtocol(Protocol):
    """nxagent: takes one client, says which VM it is, and sends back what comes in."""

    transport: Any

    def __init__(self, guest: SimulatedGuest) -> None:
        self._guest = guest
        self._taken = False

    def connectionMade(self) -> None:
        try:
            self._guest.connect_nx(self.transport.loseConnection)
        except GuestError:
            self.transport.abortConnection()
            return
        self._taken = True
        self.transport.write(greeting(self._guest.vm_id))

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._taken:
            self._guest.disconnect_nx()


class NXFactory(Factory):
    """Of one guest."""

    noisy = False

    def __init__(self, guest: SimulatedGuest) -> None:
        self._guest = guest

    def buildProtocol(self, addr: object) -> NXProtocol:
        return NXProtocol(self._guest)


class Loopback(Network):
    """Each guest has two ports of its own on 127.0.0.1 while it runs."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._ports: dict[SimulatedGuest, tuple[IListeningPort, IListeningPort]] = {}

    def join(self, guest: SimulatedGuest) -> None:
        listen: Callable[..., Any] = self._reactor.listenTCP
        rpc = RPCServerFactory(self._reactor, guest.where.secret, self._methods(guest), RPC_SECONDS)
        vma, nx = listen(0, rpc, interface=LOOPBACK), listen(0, NXFactory(guest), interface=LOOPBACK)
        self._ports[guest] = vma, nx
        guest.where = evolve(guest.where, address=LOOPBACK, vma_port=vma.getHost().port, x_port=nx.getHost().port)

    def leave(self, guest: SimulatedGuest) -> None:
        for port in self._ports.pop(guest, ()):
            port.stopListening()

    def __len__(self) -> int:
        return len(self._ports)

    def find(self, where: Guest) -> SimulatedGuest | None:
        return next((guest for guest in self._ports if guest.where == where), None)

    def _methods(self, guest: SimulatedGuest) -> Mapping[str, Method]:
        def method(call: Method) -> Method:
            async def answer(arguments: Mapping[str, str]) -> object:
                if guest.life is Life.BOOTING:
                    raise GuestError(SILENT)
                if guest.life is not Life.UP:
                    await Deferred[None]()
                return await call(arguments)

            return answer

        async def x_start(arguments: Mapping[str, str]) -> object:
            guest.start_x()
            return guest.x_state.value

        async def x_state(arguments: Mapping[str, str]) -> object:
            return guest.x_state.value

        async def x_suspend(arguments: Mapping[str, str]) -> object:
            guest.suspend_x()
            return guest.x_state.value

        async def poweroff(arguments: Mapping[str, str]) -> object:
            guest.power_off()
            return True

        async def agree(arguments: Mapping[str, str]) -> object:
            return True

        calls = {
            "ping": agree,
            "x_start": x_start,
            "x_state": x_state,
            "x_suspend": x_suspend,
            "expire": agree,
            "poweroff": poweroff,
        }
        return {name: method(call) for name, call in calls.items()}


@implementer(IDeadline)
class NothingOutlives:
    """L{IDeadline} for VMs in the daemon's own memory: they stand still when it does, and end when it ends."""

    def extend(self, lease: Lease, until: float) -> None:
        pass

    async def release(self) -> None:
        pass


def listening_driver(reactor: Any, memory: int, behaviours: Behaviours | None = None) -> SimulatedDriver:
    """The driver of a real node.

    @param memory: bytes for guests.
    """
    chosen = behaviours or Drawn(Random().getrandbits(32), LOAD_TEST, Chances())
    machine = SimulatedMachine("this machine", memory, reactor, Loopback(reactor), Observer(reactor.seconds), chosen)
    return SimulatedDriver(machine, reactor)
