# -*- test-case-name: tests.unit.test_client_relay -*-
"""Joins the server and nxproxy: bytes both ways, each side held back by the other, until one of them ends."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

FLUSH_SECONDS = 5.0
"""For what one side left behind to reach the other."""


class Side(Enum):
    """Who ended the session."""

    SERVER = "server"
    DISPLAY = "display"


@frozen
class Ending:
    """How it ended.

    @ivar orderly: closed, not broken.
    """

    side: Side
    orderly: bool


class Leg(Protocol):
    """One side: a connection that holds its bytes back until it is attached."""

    transport: Any

    def attach(self, receive: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """Give all bytes, those held back first, to C{receive}, and the end to C{lost}."""


class Relay:
    """The joint of two legs."""

    def __init__(self, clock: IReactorTime, server: Leg, display: Leg) -> None:
        self._clock = clock
        self._legs = {Side.SERVER: server, Side.DISPLAY: display}
        self._open = set(Side)
        self._ending: Ending | None = None
        self._joined = False
        self._finished = False
        self._timer: IDelayedCall | None = None
        self._over: Deferred[Ending] = Deferred()

    async def run(self) -> Ending:
        """Relay until both sides are closed; when this is cancelled, both are cut."""
        server, display = self._legs[Side.SERVER], self._legs[Side.DISPLAY]
        # A leg has a producer of its own until it is attached.
        server.attach(display.transport.write, partial(self._lost, Side.SERVER))
        display.attach(server.transport.write, partial(self._lost, Side.DISPLAY))
        if self._ending is None:
            self._joined = True
            server.transport.registerProducer(display.transport, True)
            display.transport.registerProducer(server.transport, True)
        try:
            return await self._over
        finally:
            self._finished = True
            self._cut()

    def _lost(self, side: Side, reason: Failure) -> None:
        self._open.discard(side)
        if self._finished:
            return
        if self._ending is None:
            self._ending = Ending(side, isinstance(reason.value, ConnectionDone))
            self._flush(Side.DISPLAY if side is Side.SERVER else Side.SERVER)
        elif not self._open and not self._over.called:
            self._over.callback(self._ending)

    def _flush(self, side: Side) -> None:
        transport = self._legs[side].transport
        self._timer = self._clock.callLater(FLUSH_SECONDS, self._cut)
        if self._joined:
            transport.unregisterProducer()
        # Held back, TLS would never see the peer's answer to its farewell.
        transport.resumeProducing()
        transport.loseConnection()

    def _cut(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for side in tuple(self._open):
            self._legs[side].transport.abortConnection()
