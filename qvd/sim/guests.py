# -*- test-case-name: tests.contract.test_sim_driver -*-
"""Guests in memory: an agent that answers, an X session, and nothing else; and how to reach them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from qvd.interfaces import IGuest, IGuestDialer
from qvd.model.errors import GuestError
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret
from qvd.model.xsession import XState
from qvd.sim.behaviour import Behaviour

VMA_PORT, X_PORT = 3030, 5000
CALL_SECONDS = 0.002
"""What a call of the agent takes."""
SILENCE_SECONDS = 2.0
"""After so long without an answer a call fails."""
SILENT = "The desktop's agent does not answer"


class Life(Enum):
    """Of a guest."""

    BOOTING = "booting"
    UP = "up"
    HUNG = "hung"
    GONE = "gone"


def address_of(vm_id: VMId) -> str:
    """Of a VM's guest, in a network that does not exist."""
    return f"10.{vm_id >> 16 & 255}.{vm_id >> 8 & 255}.{vm_id & 255}"


class SimulatedGuest:
    """One run of one VM.

    @param ended: called once, when it has ended by itself or was asked to.
    @ivar drop: ends the connection of the NX client, if there is one.
    """

    def __init__(
        self, clock: IReactorTime, vm_id: VMId, secret: Secret, conduct: Behaviour, ended: Callable[[], None]
    ) -> None:
        self.vm_id = vm_id
        self.where = Guest(address_of(vm_id), VMA_PORT, X_PORT, secret)
        self.conduct = conduct
        self.life = Life.BOOTING
        self.x_state = XState.STOPPED
        self.drop: Callable[[], None] = lambda: None
        self._clock = clock
        self._ended = ended
        self._timers: list[IDelayedCall] = []
        if conduct.fails_booting:
            self._later(conduct.boot, self._exit)
        elif not conduct.silent:
            self._later(conduct.boot, self.be_up)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._clock.callLater(seconds, call))

    def be_up(self) -> None:
        """The agent answers from now on."""
        self.life = Life.UP
        if self.conduct.exits_after is not None:
            self._later(self.conduct.exits_after, self._exit)
        if self.conduct.hangs_after is not None:
            self._later(self.conduct.hangs_after, self._hang)

    def _hang(self) -> None:
        self.life = Life.HUNG

    def _exit(self) -> None:
        if self.life is not Life.GONE:
            self.vanish()
            self._ended()

    def vanish(self) -> None:
        """Its processes are killed, or end. Cuts the NX connection."""
        self.life = Life.GONE
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        drop, self.drop = self.drop, lambda: None
        drop()

    def power_off(self) -> None:
        """Asked for, from inside or outside."""
        if self.life is Life.UP and not self.conduct.deaf:
            self._later(self.conduct.shutdown, self._exit)

    def start_x(self) -> None:
        """Start or resume the X session. A client that is connected is dropped."""
        drop, self.drop = self.drop, lambda: None
        drop()
        self.x_state = XState.STARTING
        self._later(self.conduct.x_start, self._x_listens)

    def _x_listens(self) -> None:
        if self.x_state is XState.STARTING:
            self.x_state = XState.LISTENING

    def suspend_x(self) -> None:
        """The client, if there is one, is dropped."""
        drop, self.drop = self.drop, lambda: None
        drop()
        self.disconnect_nx()

    def connect_nx(self, drop: Callable[[], None]) -> None:
        """An NX client comes in; C{drop} ends its connection.

        @raise GuestError: nxagent does not listen.
        """
        if self.life not in (Life.UP, Life.HUNG) or self.x_state is not XState.LISTENING:
            raise GuestError(f"Cannot connect to the X session of VM {self.vm_id}: connection refused")
        self.x_state = XState.CONNECTED
        self.drop = drop

    def disconnect_nx(self) -> None:
        """The NX client has gone."""
        if self.x_state is XState.CONNECTED:
            self.x_state = XState.SUSPENDED
            self.drop = lambda: None


class Network:
    """All guests that can be reached, by address."""

    def __init__(self) -> None:
        self._guests: dict[str, SimulatedGuest] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def join(self, guest: SimulatedGuest) -> None:
        """It is up. Of two guests with one address the newer one answers."""
        self._guests[guest.where.address] = guest

    def leave(self, guest: SimulatedGuest) -> None:
        """It is gone."""
        if self._guests.get(guest.where.address) is guest:
            del self._guests[guest.where.address]

    def find(self, where: Guest) -> SimulatedGuest | None:
        """The guest, where one listens there; L{None} if it takes the caller's secret for a wrong one."""
        found = self._guests.get(where.address)
        return found if found is not None and found.where == where else None


@implementer(IGuest)
@frozen
class Agent:
    """L{IGuest} over the network in memory."""

    network: Network
    clock: IReactorTime
    where: Guest

    async def _call(self) -> SimulatedGuest:
        await deferLater(self.clock, CALL_SECONDS)
        guest = self.network.find(self.where)
        if guest is None or guest.life is Life.BOOTING:
            raise GuestError(f"{SILENT}: connection refused")
        if guest.life is not Life.UP:
            await deferLater(self.clock, SILENCE_SECONDS)
            raise GuestError(SILENT)
        return guest

    async def ping(self) -> None:
        # Most of all calls by far: one that is answered takes no time here.
        guest = self.network.find(self.where)
        if guest is None or guest.life is not Life.UP:
            await self._call()

    async def x_start(self, parameters: Mapping[str, str]) -> str:
        guest = await self._call()
        guest.start_x()
        return guest.x_state.value

    async def x_state(self) -> str:
        return (await self._call()).x_state.value

    async def x_suspend(self) -> str:
        guest = await self._call()
        guest.suspend_x()
        return guest.x_state.value

    async def poweroff(self) -> None:
        (await self._call()).power_off()

    async def expire(self, parameters: Mapping[str, str]) -> None:
        await self._call()

    async def message(self, text: str) -> None:
        await self._call()


@implementer(IGuestDialer)
@frozen
class Dialer:
    """L{IGuestDialer} of one node.

    @ivar clock: the node's reactor: answers come in as everything else does.
    """

    network: Network
    clock: IReactorTime

    def dial(self, guest: Guest) -> IGuest:
        return Agent(self.network, self.clock, guest)
