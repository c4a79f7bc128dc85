# -*- test-case-name: tests.contract.test_db_pool -*-
"""
A small set of connections to PostgreSQL behind L{IDatabase}.

Callers wait in line for a connection, and every call has one deadline, from its first moment to its last. When the
last connection is lost and none can be made, callers get L{DatabaseUnavailable} at once, until one is made again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any, TypeVar

import psycopg2.errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.db.connection import Address, Link, Meter, back_off, reason_of, unavailable, within
from qvd.interfaces import IDatabase, ITransaction, Parameters, PoolLoad, Row
from qvd.model.errors import DatabaseUnavailable

T = TypeVar("T")

MOST_WAITING = 1000
GRACE = 1.0
RETRIES = 3
RETRIED = ("40001", "40P01")

_inside: ContextVar[str | None] = ContextVar("_inside", default=None)


@implementer(ITransaction)
class Transaction:
    """What C{work} gets: the connection, until the transaction is over."""

    def __init__(self, link: Link, name: str) -> None:
        self._link: Link | None = link
        self._name = name

    def close(self) -> None:
        self._link = None

    @property
    def _open(self) -> Link:
        if self._link is None:
            raise RuntimeError(f"Transaction {self._name} is over")
        return self._link

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        return await self._open.fetch(sql, parameters)

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        return await self._open.fetch_one(sql, parameters)

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        return await self._open.execute(sql, parameters)


@implementer(IDatabase)
class Pool:
    """L{IDatabase} over a bounded number of connections.

    @param dsn: libpq's connection string or its parameters.
    @param size: connections at most.
    @param deadline: seconds for a call: its waiting in line, its statements and its retries together.
    @param application: how the server's own views name these connections.
    @param meter: counts what is asked.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        dsn: str | Mapping[str, object],
        size: int,
        deadline: float,
        rng: Random,
        application: str = "qvd",
        meter: Meter | None = None,
    ) -> None:
        self._reactor = reactor
        self.meter = meter or Meter()
        self._address = Address(dsn, deadline, application)
        self._size = size
        self._deadline = deadline
        self._rng = rng
        self._running = False
        self._available = False
        self._told = False
        self._links: set[Link] = set()
        self._idle: deque[Link] = deque()
        self._waiting: deque[Deferred[Link]] = deque()
        self._handing_out = False
        self._opening: Deferred[None] | None = None
        self._grace: IDelayedCall | None = None
        self._first: Deferred[None] | None = None
        self._reason = ""

    @property
    def available(self) -> bool:
        """False while the database is known to be away."""
        return self._available

    def load(self) -> PoolLoad:
        """What the connections do."""
        idle = len(self._idle)
        return PoolLoad(self._available, len(self._links) - idle, idle, len(self._waiting))

    async def start(self) -> None:
        """Begin to connect, and return when the first connection is up.

        @raise DatabaseUnavailable: the deadline passed without one. The pool is started all the same and goes on
            trying, until L{stop}.
        """
        self._running = True
        self._reason = "no answer"
        first = self._first = Deferred()
        self._open_missing()
        try:
            await within(self._reactor, self._deadline, first)
        except DatabaseUnavailable:
            raise unavailable(f"The database does not answer: {self._reason}") from None
        finally:
            self._first = None

    async def stop(self) -> None:
        """Close all connections. Calls that wait or run fail with L{DatabaseUnavailable}."""
        self._running = self._available = False
        self._end_grace()
        if self._opening is not None:
            self._opening.cancel()
        for link in list(self._links):
            link.discard("the pool is stopped")
        self._refuse_waiting()
        if self._first is not None and not self._first.called:
            self._first.errback(unavailable())

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        return await self._use(lambda link: self._retried("statement", lambda: link.fetch(sql, parameters)))

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        return await self._use(lambda link: self._retried("statement", lambda: link.fetch_one(sql, parameters)))

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        return await self._use(lambda link: self._retried("statement", lambda: link.execute(sql, parameters)))

    async def transact(self, name: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        return await self._use(lambda link: self._retried(name, lambda: self._attempt(link, name, work)))

    # Connections, in and out of use.

    async def _use(self, call: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
        """What every call comes through."""
        outer = _inside.get()
        if outer is not None:
            raise RuntimeError(f"Transaction {outer} asks for a second connection: use the one it was given")
        return await within(self._reactor, self._deadline, Deferred.fromCoroutine(self._with_link(call)))

    async def _with_link(self, call: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
        link = await self._take()
        try:
            return await call(link)
        finally:
            if not link.dead:
                self._idle.append(link)
                self._hand_out()

    async def _take(self) -> Link:
        if not self._available:
            raise unavailable()
        if self._idle and not self._waiting:
            return self._idle.pop()
        if len(self._waiting) >= MOST_WAITING:
            raise unavailable("Too many requests wait for the database; try again in a few seconds")
        turn: Deferred[Link] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return await turn

    def _hand_out(self) -> None:
        # A loop, not a recursion: a caller that is done at once comes back here from inside of the callback.
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self._idle and self._waiting:
                self._waiting.popleft().callback(self._idle.pop())
        finally:
            self._handing_out = False

    def _refuse_waiting(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for turn in waiting:
            turn.errback(unavailable())

    # Keeping connected.

    def _open_missing(self) -> None:
        if self._running and self._opening is None and len(self._links) < self._size:
            self._opening = Deferred.fromCoroutine(self._open_until_full())
            self._opening.addBoth(self._opening_ended)

    def _opening_ended(self, result: Failure | None) -> None:
        self._opening = None
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            self.log.failure("Connecting to the database", result)

    async def _open_until_full(self) -> None:
        """One attempt at a time, so that a server that comes back is not run over."""
        # A transaction that loses its connection begins this: what follows is not inside of it.
        _inside.set(None)
        delays = back_off(self._rng)
        # Callers run inside of C{_connected}, and may stop the pool: a running coroutine can not be cancelled.
        while self._running and len(self._links) < self._size:
            link = Link(self._reactor, self._lost, meter=self.meter)
            try:
                await link.open(self._address)
            except DatabaseUnavailable as error:
                self._not_connected(error.text)
                await deferLater(self._reactor, next(delays))
            else:
                delays = back_off(self._rng)
                self._connected(link)

    def _connected(self, link: Link) -> None:
        self._end_grace()
        if link.dead:
            return
        self._links.add(link)
        self._idle.append(link)
        self._available = True
        if self._told:
            self._told = False
            self.log.info("The database answers again")
        if self._first is not None and not self._first.called:
            self._first.callback(None)
        self._hand_out()

    def _not_connected(self, reason: str) -> None:
        self._reason = reason
        if not self._links:
            self._become_unavailable()

    def _lost(self, link: Link, reason: str) -> None:
        """A link is dead. While it was being opened, that is for the opener to tell."""
        if link not in self._links:
            return
        self._links.remove(link)
        if link in self._idle:
            self._idle.remove(link)
        self.log.debug("Connection to the database closed: {reason}", reason=reason)
        if not self._running:
            return
        self._reason = reason
        if not self._links and self._grace is None:
            # Perhaps all were given up for being slow: whether the server is away, the next attempt will tell.
            self._grace = self._reactor.callLater(GRACE, self._become_unavailable)
        self._open_missing()

    def _become_unavailable(self) -> None:
        self._end_grace()
        self._available = False
        if not self._told:
            self._told = True
            self.log.warn("The database does not answer: {reason}; connecting again", reason=self._reason)
        self._refuse_waiting()

    def _end_grace(self) -> None:
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self._grace = None

    # Transactions.

    async def _retried(self, name: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Whatever the server has undone for the sake of others is done again."""
        for retry in range(RETRIES):
            try:
                return await attempt()
            except psycopg2.Error as error:
                if error.pgcode not in RETRIED:
                    raise
                self.log.debug("Transaction {name} is tried again: {reason}", name=name, reason=reason_of(error))
            await deferLater(self._reactor, self._rng.uniform(0, 0.02 * 2**retry))
        return await attempt()

    async def _attempt(self, link: Link, name: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        async def marked() -> T:
            _inside.set(name)
            return await work(transaction)

        transaction = Transaction(link, name)
        settled = False
        await link.run("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            # As a Deferred, it has a context of its own for the mark.
            result = await Deferred.fromCoroutine(marked())
            committed = await link.run("COMMIT")
            settled = True
        except CancelledError:
            raise
        except Exception:
            settled = await self._roll_back(link)
            raise
        finally:
            transaction.close()
            if not settled:
                link.discard("given up in a transaction")
        if committed.statusmessage != "COMMIT":
            raise psycopg2.errors.InFailedSqlTransaction(f"Transaction {name} went on after a statement that failed")
        return result

    async def _roll_back(self, link: Link) -> bool:
        """True when the connection is good for the next transaction."""
        if link.dead:
            return False
        try:
            await link.run("ROLLBACK")
        except (psycopg2.Error, DatabaseUnavailable):
            return False
        return True
