# -*- test-case-name: tests.unit.test_hkd_retired -*-
"""
A daemon that was upgraded: it serves nobody new, and goes on with the clients it has on the lease of its successor.

The successor tells it of each renewal. When it falls silent, whatever the reason, the sessions end when its fence
falls: their VMs end then, too. One that is restarted in time is found again, since it listens on the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.sessionwatch import SessionWatch
from qvd.interfaces import INodeStatus
from qvd.model.errors import Unavailable
from qvd.model.records import Lease
from qvd.protocols.adapters.control import ControlLine
from qvd.protocols.adapters.heads import ConnectionClosed
from qvd.protocols.handover import End, Follow, Message, NoLease, Serving

LOOK = 0.25
"""Seconds between two looks whether it is over, and two tries to reach the successor."""
SILENCE = 30.0
"""After so long without a word the successor is dialled anew."""
FAREWELL = 20.0
"""Seconds for clients to go that were told to."""
OUT_OF_TIME = "The node was upgraded while this session went on, and has ended its last ones now: connect again"


@frozen
class Clients:
    """What a retired daemon still has.

    @ivar busy: whether anybody is connected, or the end of a session not written yet.
    @ivar end: ends all of it, for the reason given.
    """

    busy: Callable[[], bool]
    end: Callable[[str], None]


@implementer(INodeStatus)
class Retired:
    """The rest of this process's life.

    @param dial: makes a line to whichever process has the lease; L{None} where there is none just now.
    @param watch: over the sessions of this process.
    @param told: the last that is known of the lease.
    @param seconds: how long sessions may go on.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        instance: str,
        dial: Callable[[], ControlLine | None],
        watch: SessionWatch,
        clients: Clients,
        told: Serving,
        seconds: float,
    ) -> None:
        self._clock = clock
        self._instance = instance
        self._dial = dial
        self._watch = watch
        self._clients = clients
        self._told: Serving | None = told
        self._ends_at = clock.seconds() + seconds
        self._line: ControlLine | None = None
        self._following: Deferred[None] | None = None
        self._ending = False

    async def settled(self) -> None:
        """It is."""

    def lease(self) -> Lease:
        if self._told is None or self._clock.seconds() >= self._told.until:
            raise Unavailable("This node has lost its place in the farm", retry_after=5)
        return self._told.lease

    def refusal(self) -> str | None:
        return "Server is lost" if self._told is None else self._told.refusal or None

    async def live(self) -> None:
        """Return when no client is left."""
        self._watch.start()
        self._following = self._in_background(self._follow())
        try:
            while self._clients.busy() and not (self._ending and self._clock.seconds() >= self._ends_at):
                self._look()
                await deferLater(self._clock, LOOK)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Hear nothing any more."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
        if self._line is not None:
            self._line.close()
        await self._watch.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        if self._told is not None and now >= self._told.until:
            self._lose("its successor does not renew the lease")
        if now >= self._ends_at and not self._ending:
            self._end(OUT_OF_TIME)

    def _lose(self, reason: str) -> None:
        self._told = None
        self.log.error("the sessions of this upgraded daemon end: {reason}", reason=reason)
        self._clients.end(f"This node has lost its place in the farm: {reason}")

    def _end(self, reason: str) -> None:
        """Once and for all."""
        self._ending = True
        self._ends_at = self._clock.seconds() + FAREWELL
        self._clients.end(reason)

    async def _follow(self) -> None:
        while True:
            line = self._line = self._dial()
            if line is not None:
                line.send(Follow(self._instance))
                try:
                    while True:
                        self._hear(await line.receive(SILENCE))
                except (ConnectionClosed, TimeoutError):
                    line.close()
            await deferLater(self._clock, LOOK)

    def _hear(self, message: Message) -> None:
        match message:
            case Serving():
                self._told = message
            case NoLease(reason=reason):
                if self._told is not None:
                    self._lose(reason)
            case End(reason=reason):
                if not self._ending:
                    self._end(reason)
            case _:
                self.log.warn("unexpected: {message}", message=message)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        running = Deferred.fromCoroutine(work)
        running.addErrback(self._failed)
        return running

    def _failed(self, failure: Any) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("the successor is not heard any more", failure)
