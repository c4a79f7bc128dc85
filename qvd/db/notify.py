# -*- test-case-name: tests.contract.test_db_notify -*-
"""
The connection that listens for notifications.

A bell may be lost whenever the connection is, so who listens is told to look again after each (re)connect, and a
query every few seconds notices a connection that died without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import psycopg2
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.db.connection import Address, Link, Meter, back_off, reason_of, within
from qvd.interfaces import IBells
from qvd.model.errors import DatabaseUnavailable

KEEP_ALIVE = 10.0
DEADLINE = 10.0
CHANNEL = re.compile(r"[a-z0-9_]{1,63}")

Ring = Callable[[str], None]


@implementer(IBells)
class Bells:
    """L{IBells} over one connection of its own.

    @param dsn: as for L{qvd.db.pool.Pool}, and so is C{meter}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        dsn: str | Mapping[str, object],
        rng: Random,
        application: str = "qvd bells",
        meter: Meter | None = None,
    ) -> None:
        self._reactor = reactor
        self.meter = meter or Meter()
        self._address = Address(dsn, DEADLINE, application)
        self._rng = rng
        self._rings: dict[str, list[Ring]] = {}
        self._subscribed: set[str] = set()
        self._running = False
        self._life: Deferred[None] | None = None
        self._nap: Deferred[bool] | None = None
        self._timer: IDelayedCall | None = None
        self._stale = False
        self._told = False
        self._available = False

    @property
    def available(self) -> bool:
        """False while bells are missed."""
        return self._available

    def start(self) -> None:
        """Begin to connect."""
        self._running = True
        self._life = Deferred.fromCoroutine(self._stay_connected())
        self._life.addErrback(self._ended)

    async def stop(self) -> None:
        """Close the connection. Nothing rings any more."""
        life, self._life = self._life, None
        self._running = self._available = False
        if life is not None:
            life.cancel()

    def _ended(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("Listening to the database has ended", failure)

    def listen(self, channel: str, ring: Ring) -> Callable[[], None]:
        """See L{IBells}. Rings once as well when the channel is heard for the first time.

        @raise ValueError: not a channel's name.
        """
        if CHANNEL.fullmatch(channel) is None:
            raise ValueError(f"{channel!r} is not the name of a channel")
        ended = False

        def end() -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            self._rings[channel].remove(ring)
            if not self._rings[channel]:
                del self._rings[channel]
                self._wake()

        self._rings.setdefault(channel, []).append(ring)
        if channel not in self._subscribed:
            self._wake()
        return end

    async def _stay_connected(self) -> None:
        delays = back_off(self._rng)
        # Listeners are rung from inside of here, and may call stop: a running coroutine can not be cancelled.
        while self._running:
            self._subscribed.clear()
            link = Link(self._reactor, self._lost, self._heard, self.meter)
            try:
                await link.open(self._address)
                await self._subscribe(link)
                delays = back_off(self._rng)
                self._back()
                await self._attend(link)
            except (DatabaseUnavailable, psycopg2.Error) as error:
                self._away(reason_of(error))
            finally:
                self._available = False
                link.discard("notifications are not listened to any more")
            await deferLater(self._reactor, next(delays))

    async def _attend(self, link: Link) -> None:
        """Keep subscribed and alive, until the link is dead."""
        while self._running and not link.dead:
            if await self._rest():
                await within(self._reactor, DEADLINE, Deferred.fromCoroutine(link.run("SELECT 1")))
            else:
                await self._subscribe(link)

    async def _subscribe(self, link: Link) -> None:
        """Make the server's list of channels equal to ours, and ring at those that are new on it."""
        while not link.dead and self._rings.keys() != self._subscribed:
            new = sorted(self._rings.keys() - self._subscribed)
            old = sorted(self._subscribed - self._rings.keys())
            statements = [f"LISTEN {channel}" for channel in new] + [f"UNLISTEN {channel}" for channel in old]
            await within(self._reactor, DEADLINE, Deferred.fromCoroutine(link.run("; ".join(statements))))
            self._subscribed = self._subscribed.union(new).difference(old)
            for channel in new:
                self._heard(channel, "")

    def _rest(self) -> Deferred[bool]:
        """Wait for the next keep-alive (True), or until there is something to do before (False)."""

        def over() -> None:
            self._nap = self._timer = None
            nap.callback(True)

        def cancel(_: Deferred[bool]) -> None:
            timer.cancel()
            self._nap = self._timer = None

        nap: Deferred[bool] = Deferred(cancel)
        timer = self._timer = self._reactor.callLater(KEEP_ALIVE, over)
        self._nap = nap
        if self._stale:
            self._wake()
        return nap

    def _wake(self) -> None:
        nap, timer = self._nap, self._timer
        self._stale = nap is None
        if nap is not None and timer is not None:
            timer.cancel()
            self._nap = self._timer = None
            nap.callback(False)

    def _lost(self, link: Link, reason: str) -> None:
        if self._available:
            self._away(reason)
        self._wake()

    def _away(self, reason: str) -> None:
        self._available = False
        if not self._told:
            self._told = True
            self.log.warn("No notifications from the database: {reason}; connecting again", reason=reason)

    def _back(self) -> None:
        self._available = True
        if self._told:
            self._told = False
            self.log.info("Notifications come from the database again")

    def _heard(self, channel: str, payload: str) -> None:
        for ring in tuple(self._rings.get(channel, ())):
            # One that was rung before may have ended this one, or all. Whatever one does wrong, the others are rung.
            if self._running and ring in self._rings.get(channel, ()):
                maybeDeferred(ring, payload).addErrback(self._rang_badly, channel)

    def _rang_badly(self, failure: Failure, channel: str) -> None:
        self.log.failure("Listener of {channel}", failure, channel=channel)
