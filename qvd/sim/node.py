# -*- test-case-name: tests.contract.test_sim_run -*-
"""One node of a simulated farm: the daemon's real objects over a simulated machine, and what befalls them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from qvd.db.connection import Meter
from qvd.db.pool import Pool
from qvd.hkd import configured
from qvd.hkd.composition import Composition, Machine
from qvd.l7r.conversation import Conversation
from qvd.model.records import Capacity
from qvd.model.settings_node import parse_node
from qvd.protocols.adapters.heads import HeadServer
from qvd.sim.clock import NodeReactor
from qvd.sim.database import IMAGE, TURN
from qvd.sim.driver import SimulatedDeadline, SimulatedDriver, SimulatedMachine
from qvd.sim.guests import Dialer, Network
from qvd.sim.pump import Assembly, Turns, pool_maker
from qvd.sim.scenario import NodeSpec
from qvd.sim.wires import Outside, SimulatedRoad, Wire

CORES_OF_A_GUEST = 0.05
"""Processors that a guest keeps busy."""
_KILLED: list[Composition] = []
"""A process that was killed runs no C{finally}: what is collected would, so nothing of it may be."""


async def list_images() -> Collection[str]:
    """What is in the storage that all nodes share."""
    return (IMAGE,)


@frozen
class Surroundings:
    """What all nodes share.

    @ivar settings: of C{node.conf}, without the node's name.
    @ivar turns: whose call to the database is next; L{None}: all at once.
    """

    clock: IReactorTime
    real: Any
    network: Network
    settings: Mapping[str, Any]
    seed: int
    turns: Turns | None
    assembly: Assembly


class SimulatedNode:
    """A daemon on a machine.

    @ivar up: it takes clients.
    @ivar asked: statements that all its daemons have sent.
    """

    def __init__(self, spec: NodeSpec, around: Surroundings, machine: SimulatedMachine) -> None:
        self.name = spec.name
        self.machine = machine
        self.up = False
        self.failed = False
        self._spec = spec
        self._around = around
        self._deadline = SimulatedDeadline(machine)
        self._starts = 0
        self._meters: list[Meter] = []
        self._wires: set[Wire] = set()
        self.reactor: Any = None
        self.composition: Composition | None = None

    @property
    def asked(self) -> int:
        return sum(meter.asked for meter in self._meters)

    @property
    def waits(self) -> bool:
        """For an answer of the database, which will come."""
        return self.composition is not None and not self.reactor.mute and self._meters[-1].underway > 0

    @property
    def hears(self) -> bool:
        """It is there, and hears the database's bells."""
        return self.composition is not None and not self.reactor.mute and self.composition.bells.available

    def start(self) -> None:
        """A new daemon. No effect while there is one."""
        if self.composition is not None:
            return
        around = self._around
        self._starts += 1
        reactor: Any = NodeReactor(around.clock, around.real)
        self.reactor = reactor
        self._meters.append(Meter())
        machine = Machine(
            reactor=reactor,
            driver=SimulatedDriver(self.machine, reactor),
            deadline=self._deadline,
            dialer=Dialer(around.network, reactor),
            capacity=self._capacity,
            random=Random(f"{around.seed}/{self.name}/{self._starts}"),
            ready=self._ready,
            failed=self._failed,
            road=SimulatedRoad(reactor, around.network, around.clock, self._keep),
            make_pool=Pool if around.turns is None else pool_maker(around.turns),
            meter=self._meters[-1],
            images=list_images,
        )
        settings = parse_node({**around.settings, "nodename": self.name}, f"simulated node {self.name}")
        self.composition = composition = Composition(settings, machine)
        composition.bells.listen(TURN, around.assembly.listener(self.reactor))
        composition.node.startService()

    def _ready(self) -> None:
        self.up = True

    def _failed(self) -> None:
        self.failed = True
        self.kill(power_fails=False)

    def _capacity(self) -> Capacity:
        used = self.machine.used
        busy = CORES_OF_A_GUEST * len(self.machine.held)
        return Capacity(
            memory=self._spec.memory,
            cpus=self._spec.cores,
            available=max(self._spec.memory - used, 0),
            idle=max(self._spec.cores - busy, 0.0),
        )

    def _keep(self, wire: Wire) -> None:
        self._wires.add(wire)
        wire.closed = lambda: self._wires.discard(wire)

    def dial(self, outside: Outside, port: int) -> Wire:
        """A client connects.

        @raise ConnectionRefusedError: nobody listens.
        """
        composition = self.composition
        if composition is None or not self.up:
            raise ConnectionRefusedError(f"{self.name} takes no connection")
        server = HeadServer(
            self.reactor,
            configured.head_limits(composition.settings),
            lambda wire: Conversation(composition.services, wire).run(),
        )
        wire = Wire(self.reactor, self._around.clock, server, outside, port, "192.0.2.1")
        self._keep(wire)
        self.reactor.callLater(0, self._accept, server, wire)
        return wire

    def _accept(self, server: HeadServer, wire: Wire) -> None:
        server.makeConnection(wire)  # type: ignore[no-untyped-call]

    # What befalls it.

    def kill(self, power_fails: bool) -> None:
        """The daemon is gone; with C{power_fails} its guests too."""
        composition, self.composition = self.composition, None
        self.up = False
        if power_fails:
            self.machine.power_fails()
        if composition is None:
            return
        _KILLED.append(composition)
        self.reactor.die()
        self._not_listening()
        composition.hasher.stop()
        for descriptor in self.reactor.descriptors:
            # What the kernel does for a process that ends.
            close_quietly(descriptor)
        wires, self._wires = self._wires, set()
        for wire in wires:
            wire.break_off()

    def _not_listening(self) -> None:
        self._around.assembly.forget(self.reactor)
        if self._around.turns is not None:
            self._around.turns.leave(self.reactor)

    def hang(self) -> None:
        """SIGSTOP."""
        if self.composition is not None:
            self.reactor.stop_process()
            self._not_listening()

    def go_on(self) -> None:
        """SIGCONT."""
        if self.composition is not None:
            self.reactor.continue_process()

    def cut(self) -> None:
        """Answers of the database do not come in any more."""
        if self.composition is not None:
            self.reactor.cut(True)
            self._not_listening()

    def mend(self) -> None:
        """They do again."""
        if self.composition is not None:
            self.reactor.cut(False)


def close_quietly(descriptor: Any) -> None:
    """Close a connection to the database, or a listener, and tell nobody."""
    closing: Callable[[], None] | None = getattr(descriptor, "drop", None)
    if closing is None:
        closing = getattr(getattr(descriptor, "socket", None), "close", None)
    if closing is not None:
        closing()
