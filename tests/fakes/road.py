"""The way to nxagent, without one."""

from __future__ import annotations

from typing import Any, cast

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qvd.l7r.nx import NXRoad
from qvd.model.records import Guest
from qvd.protocols.adapters.heads import HeadServer
from qvd.protocols.adapters.relay import GuestLeg
from tests.fakes.conduct import Conduct


class FakeLeg:
    """A connection to nxagent."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Pipe:
    """A relay that a test ends."""

    def __init__(self, conduct: Conduct) -> None:
        self.received: list[bytes] = []
        self.ended: Deferred[str] = Deferred(lambda _: conduct.calls.append(("cut",)))

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connectionLost(self, reason: Failure) -> None:
        if not self.ended.called:
            self.ended.callback("the client ended it")


@frozen
class FakeRoad(NXRoad):
    """L{NXRoad} that records.

    @ivar legs: all that were dialed; C{pipes}: all relays.
    """

    conduct: Conduct
    legs: list[FakeLeg] = field(factory=list)
    pipes: list[Pipe] = field(factory=list)

    async def dial(self, guest: Guest) -> GuestLeg:
        await self.conduct.before("dial", guest)
        self.legs.append(FakeLeg())
        return cast(GuestLeg, cast(Any, self.legs[-1]))

    async def relay(self, wire: HeadServer, leg: GuestLeg) -> str:
        await self.conduct.before("relay")
        _, first = wire.hand_over()
        pipe = Pipe(self.conduct)
        self.pipes.append(pipe)
        if first:
            pipe.dataReceived(first)
        wire.set_receiver(pipe)
        return await pipe.ended
