"""Agents of guests that answer, or not."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from qvd.interfaces import IGuest, IGuestDialer
from qvd.model.errors import GuestError
from qvd.model.records import Guest
from tests.fakes.conduct import Conduct

SILENT = "The desktop's agent does not answer"


@implementer(IGuest)
class FakeGuest:
    """L{IGuest} with an X session that listens as soon as it is started.

    @ivar alive: pings are answered.
    @ivar states: what C{x_state} says, one after the other, the last one for ever.
    """

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.alive = True
        self.states = ["listening"]
        self.parameters: Mapping[str, str] = {}

    async def ping(self) -> None:
        await self.conduct.before("ping")
        if not self.alive:
            raise GuestError(SILENT)

    async def x_start(self, parameters: Mapping[str, str]) -> str:
        await self.conduct.before("x_start")
        self.parameters = parameters
        return "starting"

    async def x_state(self) -> str:
        await self.conduct.before("x_state")
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def x_suspend(self) -> str:
        await self.conduct.before("x_suspend")
        return "suspending"

    async def poweroff(self) -> None:
        await self.conduct.before("poweroff")
        await self.conduct.after("poweroff")

    async def expire(self, parameters: Mapping[str, str]) -> None:
        await self.conduct.before("expire", dict(parameters))

    async def message(self, text: str) -> None:
        await self.conduct.before("message", text)


@implementer(IGuestDialer)
class FakeDialer:
    """L{IGuestDialer}; behind all addresses is one guest."""

    def __init__(self, guest: FakeGuest | None = None) -> None:
        self.guest = guest or FakeGuest()
        self.dialed: list[Guest] = []

    def dial(self, guest: Guest) -> IGuest:
        self.dialed.append(guest)
        return self.guest
