# -*- test-case-name: tests.contract.test_sim_driver -*-
"""The driver C{simulated}: VMs in the memory of a simulated machine, which outlive the daemon as real ones do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from qvd.interfaces import IDeadline, IDriver
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, Lease, VMSpec
from qvd.sim.behaviour import Behaviour, Behaviours
from qvd.sim.guests import Network, SimulatedGuest
from qvd.sim.observer import Observer

KILL_SECONDS, DESTROY_SECONDS = 0.005, 0.01


class Remains:
    """What a machine holds of one VM: always its home, which is mounted, and a guest while it runs."""

    def __init__(self, conduct: Behaviour, memory: int) -> None:
        self.conduct = conduct
        self.memory = memory
        self.guest: SimulatedGuest | None = None


class SimulatedMachine:
    """A machine with its VMs, whoever runs on it for a daemon.

    @param memory: bytes for guests.
    @param clock: of the world, not of the daemon.
    """

    def __init__(
        self,
        name: str,
        memory: int,
        clock: IReactorTime,
        network: Network,
        observer: Observer,
        behaviours: Behaviours,
    ) -> None:
        self.name = name
        self.memory = memory
        self.clock = clock
        self._network = network
        self._observer = observer
        self._behaviours = behaviours
        self._held: dict[VMId, Remains] = {}
        self._watchers: list[Callable[[VMId], None]] = []

    @property
    def used(self) -> int:
        """Bytes that guests have."""
        return sum(remains.memory for remains in self._held.values() if remains.guest is not None)

    @property
    def held(self) -> dict[VMId, Remains]:
        """By VM."""
        return self._held

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        """See L{IDriver.watch}."""
        self._watchers.append(exited)
        return lambda: self._watchers.remove(exited)

    def prepare(self, spec: VMSpec) -> Behaviour:
        """Mount the home.

        @return: how the run that begins will go.
        """
        if spec.vm_id not in self._held:
            self._observer.mounted(spec.vm_id, self.name)
        remains = self._held.get(spec.vm_id)
        if remains is not None and remains.guest is not None:
            return remains.conduct
        conduct = self._behaviours(spec)
        self._held[spec.vm_id] = Remains(conduct, spec.memory)
        return conduct

    def boot(self, spec: VMSpec) -> Guest:
        """The guest begins to run."""
        conduct = self.prepare(spec) if spec.vm_id not in self._held else self._held[spec.vm_id].conduct
        remains = self._held[spec.vm_id]
        if remains.guest is not None:
            raise TransientError("The virtual machine runs already")
        guest = SimulatedGuest(self.clock, spec.vm_id, spec.secret, conduct, lambda: self._gone(spec.vm_id))
        remains.guest, remains.memory = guest, spec.memory
        self._network.join(guest)
        self._observer.started(spec.vm_id, self.name, spec.memory, self.memory)
        return guest.where

    def run_already(self, spec: VMSpec) -> Guest:
        """A VM that has been running for long."""
        where = self.boot(spec)
        guest = self._held[spec.vm_id].guest
        assert guest is not None
        guest.be_up()
        return where

    def kill(self, vm_id: VMId) -> None:
        """End its guest, if it runs."""
        remains = self._held.get(vm_id)
        if remains is not None and remains.guest is not None:
            remains.guest.vanish()
            self._gone(vm_id)

    def _gone(self, vm_id: VMId) -> None:
        remains = self._held[vm_id]
        guest, remains.guest = remains.guest, None
        assert guest is not None
        self._network.leave(guest)
        self._observer.ended(vm_id, self.name, remains.memory)
        for watcher in list(self._watchers):
            watcher(vm_id)

    def forget(self, vm_id: VMId) -> None:
        """Unmount its home."""
        if self._held.pop(vm_id, None) is not None:
            self._observer.unmounted(vm_id, self.name)

    def power_fails(self) -> None:
        """All that runs is gone at once, and nobody is told."""
        self._watchers.clear()
        self.wipe()

    def wipe(self) -> None:
        """End every guest and unmount every home: what the watchdog does when the lease is over."""
        for vm_id in list(self._held):
            self.kill(vm_id)
            self.forget(vm_id)


@implementer(IDriver)
class SimulatedDriver:
    """L{IDriver} of one daemon on a simulated machine.

    @param clock: the daemon's reactor: when that stands still, so do its calls.
    """

    name = "simulated"

    def __init__(self, machine: SimulatedMachine, clock: IReactorTime) -> None:
        self._machine = machine
        self._clock = clock

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        conduct = self._machine.prepare(spec)
        progress("Unpacking the simulated image")
        await deferLater(self._clock, conduct.prepare)
        if conduct.fails_preparing:
            raise PermanentError("The simulated image cannot be unpacked")

    async def start(self, spec: VMSpec) -> Guest:
        held = self._machine.held.get(spec.vm_id)
        if held is not None and held.guest is not None:
            raise TransientError("The virtual machine runs already")
        await deferLater(self._clock, 0.01 if held is None else held.conduct.start)
        return self._machine.boot(spec)

    async def shutdown(self, vm_id: VMId) -> None:
        held = self._machine.held.get(vm_id)
        if held is not None and held.guest is not None:
            held.guest.power_off()

    async def kill(self, vm_id: VMId) -> None:
        self._machine.kill(vm_id)
        # Those who watch are told first: their turn was asked for before this one.
        await deferLater(self._clock, KILL_SECONDS)

    async def destroy(self, vm_id: VMId) -> None:
        held = self._machine.held.get(vm_id)
        if held is None:
            return
        if held.guest is not None:
            raise TransientError("The virtual machine still runs")
        self._machine.forget(vm_id)
        await deferLater(self._clock, DESTROY_SECONDS)

    async def list(self) -> Sequence[Domain]:
        return [
            Domain(vm_id, held.guest is not None, None if held.guest is None else held.guest.where)
            for vm_id, held in self._machine.held.items()
        ]

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        # In the daemon's own time: one that stands still hears of it when it goes on.
        return self._machine.watch(lambda vm_id: self._tell(exited, vm_id))

    def _tell(self, exited: Callable[[VMId], None], vm_id: VMId) -> None:
        self._clock.callLater(0, exited, vm_id)


@implementer(IDeadline)
class SimulatedDeadline:
    """The watchdog: on the machine, outside of the daemon, so that it acts whatever becomes of that."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine
        self._timer: IDelayedCall | None = None

    def extend(self, lease: Lease, until: float) -> None:
        self._cancel()
        clock = self._machine.clock
        self._timer = clock.callLater(max(until - clock.seconds(), 0.0), self._machine.wipe)

    async def release(self) -> None:
        """The deadline stands for the VMs that are left to a successor."""
        if not self._machine.held:
            self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
