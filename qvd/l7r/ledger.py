# -*- test-case-name: tests.unit.test_l7r_ledger -*-
"""
The sessions of this process, and the certainty that each one's end reaches the database.

An end that cannot be written, whyever, is kept and tried again. What a crash leaves open is
ended by the next epoch of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.interfaces import ISessionKiller, ISessions
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import SessionId

RETRY = 1.0
"""Seconds between tries to write an end."""


@implementer(ISessionKiller)
class Ledger:
    """Live sessions by id, each with the function that closes it."""

    log = Logger()

    def __init__(self, clock: IReactorTime, sessions: ISessions) -> None:
        self._clock = clock
        self._sessions = sessions
        self._closers: dict[SessionId, Callable[[str], None]] = {}
        self._confirmed: set[SessionId] = set()
        self._ending: dict[SessionId, Deferred[None]] = {}

    def open(self, session_id: SessionId, closer: Callable[[str], None]) -> None:
        """A session begins; C{closer(reason)} ends it from outside."""
        self._closers[session_id] = closer

    def confirm(self, session_id: SessionId) -> None:
        """Its row says that its client is connected."""
        if session_id in self._closers:
            self._confirmed.add(session_id)

    def serves(self, session_id: SessionId) -> bool:
        return session_id in self._closers

    def confirmed(self) -> Collection[SessionId]:
        return frozenset(self._confirmed)

    def close(self, session_id: SessionId, reason: str) -> None:
        closer = self._closers.get(session_id)
        if closer is not None:
            closer(reason)
        else:
            # Its row says that it is open: its claim was committed after its end had been written.
            self.end(session_id, reason)

    def close_all(self, reason: str) -> None:
        """The node stops."""
        for closer in list(self._closers.values()):
            closer(reason)

    def end(self, session_id: SessionId, reason: str) -> None:
        """A session is over: have its row say so, whatever it takes."""
        self._closers.pop(session_id, None)
        self._confirmed.discard(session_id)
        if session_id not in self._ending:
            writing = self._ending[session_id] = Deferred.fromCoroutine(self._write(session_id, reason))
            writing.addErrback(self._unwritten, session_id)
            writing.addBoth(lambda _: self._settle(session_id))

    def _unwritten(self, failure: Failure, session_id: SessionId) -> None:
        if isinstance(failure.value, CancelledError):
            self.log.warn("session {id}: its end was not written; the next start of this node does it", id=session_id)
        else:
            self.log.failure("session {id} not ended", failure, id=session_id)

    def _settle(self, session_id: SessionId) -> None:
        del self._ending[session_id]

    async def _write(self, session_id: SessionId, reason: str) -> None:
        while True:
            try:
                await self._sessions.end(session_id, reason)
                return
            except DatabaseUnavailable:
                pass
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001
                # A full disk, or a server that only reads since a fail-over: that passes as well.
                self.log.failure("session {id} is not ended yet", id=session_id)
            await deferLater(self._clock, RETRY)

    async def settled(self, seconds: float) -> None:
        """Wait until all ends are written, C{seconds} at most; then give the rest up for the next epoch."""
        until = self._clock.seconds() + seconds
        while self._ending and self._clock.seconds() < until:
            await deferLater(self._clock, 0.05)
        for writing in list(self._ending.values()):
            writing.cancel()

    @property
    def busy(self) -> bool:
        """A session is live, or its end not written yet."""
        return bool(self._closers or self._ending)

    @property
    def count(self) -> int:
        """How many sessions are live."""
        return len(self._closers)
