# -*- test-case-name: tests.contract.test_sim_run -*-
"""Connections in memory, between a node and somebody outside: a client, or the nxagent of a guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from qvd.l7r.nx import NXRoad
from qvd.model.errors import GuestError
from qvd.model.records import Guest
from qvd.protocols.adapters.relay import GuestLeg
from qvd.sim.guests import Network, SimulatedGuest

LATENCY = 0.0005
"""Seconds that bytes take."""


class Outside(Protocol):
    """The end that is no node."""

    def received(self, data: bytes) -> None: ...

    def lost(self) -> None: ...


class Wire:
    """One connection; also the transport of the node's end.

    What goes to the node comes in by the node's own clock, so that a node that stands still reads nothing.
    @param protocol: what the node has at its end.
    """

    connected = True

    def __init__(
        self, node: IReactorTime, world: IReactorTime, protocol: Any, outside: Outside, port: int = 0, host: str = "::"
    ) -> None:
        self._node = node
        self._world = world
        self._protocol = protocol
        self._outside: Outside | None = outside
        self._peer = IPv4Address("TCP", host, port)
        self._paused = False
        self._inbox: list[Callable[[], None]] = []
        self._open = True
        self._over = False
        self.closed: Callable[[], None] = lambda: None

    # The node's end.

    def write(self, data: bytes) -> None:
        if self._open:
            self._world.callLater(LATENCY, self._to_outside, bytes(data))

    def _to_outside(self, data: bytes) -> None:
        if self._outside is not None:
            self._outside.received(data)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while self._inbox and not self._paused:
            self._inbox.pop(0)()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """There is always room: nothing is ever held back."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    def on_peer_end(self, call: Callable[[], None]) -> None:
        """Both directions always end together."""

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    loseWriteConnection = loseConnection

    def abortConnection(self) -> None:
        self._close(ConnectionAborted())

    def _close(self, why: Exception) -> None:
        if self._open:
            self._open = False
            self._inbox.clear()
            self._world.callLater(LATENCY, self._end_outside)
            self._node.callLater(0, self._end_node, why)

    def _end_outside(self) -> None:
        outside, self._outside = self._outside, None
        if outside is not None:
            outside.lost()

    def _end_node(self, why: Exception) -> None:
        if not self._over:
            self._over = True
            self._open = False
            self.closed()
            self._protocol.connectionLost(Failure(why))  # type: ignore[no-untyped-call]

    def getPeer(self) -> IAddress:
        return self._peer

    # The other end.

    def send(self, data: bytes) -> None:
        """To the node."""
        if self._outside is not None:
            self._node.callLater(LATENCY, self._deliver, lambda: self._receive(data))

    def hang_up(self) -> None:
        """End it, from outside."""
        if self._outside is not None:
            self._outside = None
            self._node.callLater(LATENCY, self._deliver, lambda: self._end_node(ConnectionDone()))

    def break_off(self) -> None:
        """The node's process is gone."""
        self._world.callLater(LATENCY, self._end_outside)

    def _deliver(self, what: Callable[[], None]) -> None:
        if self._paused:
            self._inbox.append(what)
        else:
            what()

    def _receive(self, data: bytes) -> None:
        if self._open:
            self._protocol.dataReceived(data)


class NXAgent:
    """The guest's end: says which VM it is, and sends back what comes in."""

    def __init__(self, guest: SimulatedGuest) -> None:
        self._guest = guest
        self.wire: Wire

    def received(self, data: bytes) -> None:
        self.wire.send(data)

    def lost(self) -> None:
        self._guest.disconnect_nx()


def greeting(vm_id: int) -> bytes:
    """The first that an X session says."""
    return f"NXAGENT of VM {vm_id}\n".encode()


@frozen
class SimulatedRoad(NXRoad):
    """L{NXRoad} to guests in memory.

    @ivar keep: told of each connection.
    """

    network: Network
    world: IReactorTime
    keep: Callable[[Wire], None] = field(default=lambda wire: None)

    async def dial(self, guest: Guest) -> GuestLeg:
        await deferLater(self.reactor, LATENCY)
        found = self.network.find(guest)
        if found is None:
            raise GuestError(f"Cannot connect to the X session at {guest.address}:{guest.x_port}: no route to host")
        agent, leg = NXAgent(found), GuestLeg()
        wire = agent.wire = Wire(self.reactor, self.world, leg, agent, guest.x_port, guest.address)
        found.connect_nx(wire.hang_up)
        self.keep(wire)
        leg.makeConnection(wire)  # type: ignore[no-untyped-call]
        wire.send(greeting(found.vm_id))
        return leg
