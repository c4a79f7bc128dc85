"""A machine with its guests and its watchdog. They outlive the daemon, and die with the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from qvd.interfaces import IDeadline, IDriver, IGuest, IGuestDialer
from qvd.model.errors import GuestError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, Lease, VMSpec
from tests.world.line import Process

WATCHDOG_LOOK = 0.25
"""Seconds between two looks of the watchdog: it kills so late at most."""


@define
class SimulatedGuest:
    """What runs.

    @ivar hung: its agent answers nothing.
    @ivar stubborn: it ignores a power-off and TERM.
    @ivar legs: functions that end the connections to its nxagent.
    """

    vm_id: VMId
    guest: Guest
    memory: int
    home: str
    up_at: float
    hung: bool = False
    stubborn: bool = False
    legs: list[Callable[[str], None]] = field(factory=list)


class World(Protocol):
    """What a machine needs of the world around it."""

    @property
    def now(self) -> float: ...

    def later(self, seconds: float, event: Callable[[], object]) -> None: ...

    def effort(self, machine: Machine, what: str) -> tuple[float | None, bool]:
        """Seconds that an operation of the driver takes (L{None}: for ever), and whether it succeeds."""

    def guests_changed(self) -> None:
        """To be judged by the observer."""

    def guest_ends(self, guest: SimulatedGuest) -> None:
        """By itself."""

    def guest_at(self, guest: Guest) -> SimulatedGuest | None:
        """What listens there, on whichever machine."""


class Machine:
    """@ivar on: it has power.
    @ivar guests: what runs. C{prepared}: VMs of which something was left behind.
    @ivar until: the last deadline that the watchdog has read, by L{uptime}.
    @ivar memory: bytes for VMs.
    @ivar started: how many guests have been.
    """

    def __init__(self, world: World, number: int, memory: int) -> None:
        self.number = number
        self.name = f"n{number}"
        self.memory = memory
        self.on = True
        self.guests: dict[VMId, SimulatedGuest] = {}
        self.prepared: set[VMId] = set()
        self.until: float | None = None
        self.exited: Callable[[VMId], None] = lambda vm_id: None
        self._world = world
        self._booted_at = world.now - 1000.0 * number
        self.started = 0
        self._instances = 0

    def uptime(self) -> float:
        return self._world.now - self._booted_at

    def new_instance(self) -> str:
        """UUID of one more daemon."""
        self._instances += 1
        return str(UUID(int=(self.number << 64) + self._instances))

    def lose_power(self) -> None:
        """All at once."""
        self.on = False
        for guest in list(self.guests.values()):
            self.end(guest, "The machine has lost its power")
        self.prepared.clear()
        self.until = None

    def boot(self) -> None:
        self.on, self._booted_at = True, self._world.now

    def promise(self, until: float) -> None:
        """The daemon tells the watchdog."""
        self.until = until
        self._world.later(max(until - self.uptime(), 0.0) + WATCHDOG_LOOK, self.watchdog)

    def watchdog(self) -> None:
        """Kill everything, once the deadline has passed; whatever has become of the daemon."""
        if self.until is not None and self.uptime() >= self.until:
            for guest in list(self.guests.values()):
                self.end(guest, "The lease is over")

    def may_run(self) -> bool:
        """The watchdog's deadline, which the sandbox's supervisor reads before it starts anything, is still to come."""
        return self.until is not None and self.uptime() < self.until

    def run(self, spec: VMSpec, up_in: float) -> Guest:
        """@raise TransientError: the lease is over, as the sandbox's supervisor reads in the watchdog's file; or it
        runs already."""
        if not self.may_run():
            raise TransientError("The lease of this node is over")
        if spec.vm_id in self.guests:
            raise TransientError("It runs already")
        self.started += 1
        address = Guest(f"192.0.2.{self.number}", 20000 + 2 * self.started, 20001 + 2 * self.started, spec.secret)
        guest = SimulatedGuest(spec.vm_id, address, spec.memory, spec.home, self._world.now + up_in)
        self.guests[spec.vm_id] = guest
        self.prepared.add(spec.vm_id)
        self._world.guests_changed()
        return address

    def end(self, guest: SimulatedGuest, why: str) -> None:
        """Its processes are gone."""
        if self.guests.get(guest.vm_id) is guest:
            del self.guests[guest.vm_id]
            legs, guest.legs = guest.legs, []
            for leg in legs:
                leg(why)
            self.exited(guest.vm_id)


@implementer(IDeadline)
class SimulatedDeadline:
    """L{IDeadline} of one daemon."""

    def __init__(self, machine: Machine, process: Process) -> None:
        self._machine = machine
        self._process = process

    def extend(self, lease: Lease, until: float) -> None:
        if self._process.alive:
            self._machine.promise(until)

    async def release(self) -> None:
        pass


@implementer(IDriver)
class SimulatedDriver:
    """L{IDriver} of one daemon: each operation takes a while, and may fail or never come back. One that is under way
    goes on while the daemon is stopped."""

    name = "simulated"

    def __init__(self, world: World, machine: Machine, process: Process) -> None:
        self._world = world
        self._machine = machine
        self._process = process

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        progress("Unpacking")
        await self._operate("prepare", lambda: self._machine.prepared.add(spec.vm_id))

    async def start(self, spec: VMSpec) -> Guest:
        found: list[Guest] = []
        await self._operate("start", lambda: found.append(self._machine.run(spec, 0.5)))
        return found[0]

    async def shutdown(self, vm_id: VMId) -> None:
        await self._operate("shutdown", lambda: self._end(vm_id, False))

    async def kill(self, vm_id: VMId) -> None:
        await self._operate("kill", lambda: self._end(vm_id, True))

    async def destroy(self, vm_id: VMId) -> None:
        def free() -> None:
            if vm_id in self._machine.guests:
                raise TransientError("It still runs")
            self._machine.prepared.discard(vm_id)

        await self._operate("destroy", free)

    async def list(self) -> Sequence[Domain]:
        found: list[Domain] = []

        def look() -> None:
            for vm_id in sorted(self._machine.prepared | set(self._machine.guests)):
                guest = self._machine.guests.get(vm_id)
                found.append(Domain(vm_id, guest is not None, None if guest is None else guest.guest))

        await self._operate("list", look)
        return found

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        def tell(vm_id: VMId) -> None:
            self._process.receive(lambda: exited(vm_id))

        self._machine.exited = tell

        def end() -> None:
            if self._machine.exited is tell:
                self._machine.exited = lambda vm_id: None

        return end

    def _end(self, vm_id: VMId, hard: bool) -> None:
        guest = self._machine.guests.get(vm_id)
        if guest is not None and (hard or not guest.stubborn):
            self._machine.end(guest, "The virtual machine has ended")

    def _operate(self, what: str, effect: Callable[[], object]) -> Deferred[None]:
        """Cancelled, it takes no effect any more."""
        done: Deferred[None] = Deferred()
        seconds, good = self._world.effort(self._machine, what)
        if seconds is not None:
            self._world.later(seconds, lambda: self._take_effect(done, effect, good))
        return done

    def _take_effect(self, done: Deferred[None], effect: Callable[[], object], good: bool) -> None:
        if done.called or not self._process.alive:
            return
        failure: TransientError | None = None if good else TransientError("The hypervisor failed")
        try:
            if good:
                effect()
        except TransientError as error:
            failure = error
        self._process.receive(lambda: answer(done, failure))


def answer(done: Deferred[None], failure: Exception | None) -> None:
    """Unless nobody waits for it any more."""
    if not done.called and failure is None:
        done.callback(None)
    elif not done.called and failure is not None:
        done.errback(failure)


@implementer(IGuest)
class SimulatedAgent:
    """L{IGuest}: an agent that is asked over the network."""

    def __init__(self, world: World, guest: Guest, process: Process) -> None:
        self._world = world
        self._guest = guest
        self._process = process

    async def ping(self) -> None:
        await self._ask(lambda guest: None)

    async def x_start(self, parameters: Mapping[str, str]) -> str:
        await self._ask(lambda guest: None)
        return "starting"

    async def x_state(self) -> str:
        await self._ask(lambda guest: None)
        return "listening"

    async def x_suspend(self) -> str:
        await self._ask(lambda guest: None)
        return "suspending"

    async def expire(self, parameters: Mapping[str, str]) -> None:
        await self._ask(lambda guest: None)

    async def message(self, text: str) -> None:
        await self._ask(lambda guest: None)

    async def poweroff(self) -> None:
        await self._ask(self._power_off)

    def _power_off(self, guest: SimulatedGuest) -> None:
        if not guest.stubborn:
            self._world.later(0.3, lambda: self._world.guest_ends(guest))

    def _ask(self, what: Callable[[SimulatedGuest], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._world.later(0.01, lambda: self._reach(done, what))
        return done

    def _reach(self, done: Deferred[None], what: Callable[[SimulatedGuest], None]) -> None:
        guest = self._world.guest_at(self._guest)
        if guest is None or guest.hung or self._world.now < guest.up_at:
            self._process.receive(lambda: answer(done, GuestError("The desktop's agent does not answer")))
        else:
            what(guest)
            self._process.receive(lambda: answer(done, None))


@implementer(IGuestDialer)
class SimulatedDialer:
    """L{IGuestDialer} of one daemon."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def dial(self, guest: Guest) -> IGuest:
        return SimulatedAgent(self._world, guest, self._process)
