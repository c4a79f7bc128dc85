# -*- test-case-name: tests.unit.test_kvm_channel -*-
"""
The node's ends of the guests' channels (L{qvd.protocols.guestchannel}): UNIX sockets of QEMU.

The guest is hostile: it may flood the channel, or never read it. So we read at leisure, and answer only while there is
room.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from qvd.model.ids import VMId
from qvd.protocols.guestchannel import Lines, Word, encode

LEISURE = 0.05
"""Seconds for which a guest that has said something is not listened to."""
OBEY_SECONDS = 2.0
"""For an agent to say that it obeys."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two tries to connect."""


class IChannelReactor(IReactorUNIX, IReactorTime):
    """What is needed of a reactor."""


class AgentChannel(Protocol):
    """One connection.

    @param answer: what a guest is told that asks.
    @param here: called with this object when there is a connection, and with L{None} when there is none any more.
    """

    def __init__(self, clock: IReactorTime, answer: bytes, here: Callable[[AgentChannel | None], None]) -> None:
        self._clock = clock
        self._answer = answer
        self._here = here
        self._lines = Lines()
        self._room = True
        self._leisure: IDelayedCall | None = None
        self._obeying: list[Deferred[None]] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._write(b"\n")
        self._here(self)

    def pauseProducing(self) -> None:
        """The guest does not read."""
        self._room = False

    def resumeProducing(self) -> None:
        """It does again."""
        self._room = True

    def stopProducing(self) -> None:
        """The connection ends."""

    def dataReceived(self, data: bytes) -> None:
        words = {saying.word for saying in self._lines.feed(data)}
        if Word.ASK in words:
            self._write(self._answer)
        if Word.OBEY in words:
            obeying, self._obeying = self._obeying, []
            for each in obeying:
                each.callback(None)
        self._rest()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._leisure is not None and self._leisure.active():
            self._leisure.cancel()
        self._here(None)

    def order(self) -> Deferred[None]:
        """Tell the guest to turn itself off. Fires when it says that it does."""
        obeying: Deferred[None] = Deferred()
        self._obeying.append(obeying)
        self._write(encode(Word.POWEROFF))
        return obeying

    def _write(self, data: bytes) -> None:
        if self._room and self.transport is not None:
            self.transport.write(data)

    def _rest(self) -> None:
        transport = self.transport
        assert transport is not None
        transport.pauseProducing()  # type: ignore[attr-defined]
        self._leisure = self._clock.callLater(LEISURE, transport.resumeProducing)  # type: ignore[attr-defined]


class Line:
    """The channel of one VM, connected again whenever it is lost."""

    def __init__(self, reactor: IChannelReactor, socket: Path, answer: bytes) -> None:
        self._clock = reactor
        self._channel: AgentChannel | None = None
        endpoint = UNIXClientEndpoint(reactor, str(socket))  # type: ignore[no-untyped-call]
        factory = Factory.forProtocol(lambda: AgentChannel(reactor, answer, self._is_here))
        self._service = ClientService(endpoint, factory, retryPolicy=pause, clock=reactor)
        self._service.startService()

    def close(self) -> None:
        """Connect no more."""
        self._service.stopService()

    async def order(self) -> bool:
        """@return: whether the agent says that it turns the guest off."""
        if self._channel is None:
            return False
        try:
            await self._channel.order().addTimeout(OBEY_SECONDS, self._clock)
        except TimeoutError:
            return False
        return True

    def _is_here(self, channel: AgentChannel | None) -> None:
        self._channel = channel


class Channels:
    """Of all VMs that run."""

    def __init__(self, reactor: IChannelReactor) -> None:
        self._reactor = reactor
        self._lines: dict[VMId, Line] = {}

    def open(self, vm_id: VMId, socket: Path, answer: bytes) -> None:
        """Serve a VM."""
        if vm_id not in self._lines:
            self._lines[vm_id] = Line(self._reactor, socket, answer)

    def close(self, vm_id: VMId) -> None:
        """It is gone."""
        line = self._lines.pop(vm_id, None)
        if line is not None:
            line.close()

    def close_all(self) -> None:
        """Serve nobody any more."""
        for vm_id in list(self._lines):
            self.close(vm_id)

    async def order(self, vm_id: VMId) -> bool:
        """@return: whether the VM's agent says that it turns it off."""
        line = self._lines.get(vm_id)
        return line is not None and await line.order()


def pause(attempt: int) -> float:
    """@param attempt: how many have failed."""
    return min(FIRST_PAUSE * (1 << min(attempt, 10)), LONGEST_PAUSE)
