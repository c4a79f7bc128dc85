# -*- test-case-name: tests.contract.test_db_pool,tests.unit.test_db_connection -*-
"""
One connection to PostgreSQL under the reactor: txpostgres, made to fail in one way.

What txpostgres does by itself would not do here: cancelling calls C{PQcancel}, which blocks the process while the
server is mute; an error that arrives on an idle connection is raised into the reactor's log; a statement cancelled by
the server looks like a cancelled Deferred; C{connect_timeout} is not looked at; the reactor watches the number of a
socket that libpq closes when it likes. Here, cancelling closes the socket, every death of a connection is told once to
its owner, who waits gets L{DatabaseUnavailable}, and what the reactor watches is ours.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from random import Random
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.extras import RealDictCursor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from txpostgres import txpostgres

from qvd.interfaces import Parameters, Row
from qvd.model.errors import DatabaseUnavailable
from qvd.model.secret import Secret

T = TypeVar("T")

RETRY_AFTER = 5
CONNECT_SECONDS = 5.0
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.2, 2.0
UNANSWERED = "The database does not answer; try again in a few seconds"
# The server is going away, or has cut this connection: nothing more can be asked on it.
PARTING = ("08", "57P", "25P03")
# Applied to what the server knows of them, so that an older one is no error.
SET_UP = """
    SELECT set_config(s.name, w.value, false) FROM pg_settings s JOIN (VALUES
        ('timezone', 'UTC'),
        ('statement_timeout', %(longest)s),
        ('idle_in_transaction_session_timeout', %(longest)s),
        ('client_connection_check_interval', '2000')
    ) AS w (name, value) ON lower(s.name) = w.name
"""


def unavailable(text: str = UNANSWERED) -> DatabaseUnavailable:
    """The one error that callers see when the database is away."""
    return DatabaseUnavailable(text, retry_after=RETRY_AFTER)


def reason_of(error: BaseException) -> str:
    """The first line of what libpq says: the others are advice to whoever types commands."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def back_off(rng: Random) -> Iterator[float]:
    """Seconds to wait before the next attempts to connect: they double, and differ from node to node."""
    seconds = FIRST_BACK_OFF
    while True:
        yield seconds * rng.uniform(0.5, 1.0)
        seconds = min(LONGEST_BACK_OFF, seconds * 2)


def within(clock: IReactorTime, seconds: float, operation: Deferred[T]) -> Deferred[T]:
    """Cancel C{operation} when the time is over; it then fails with L{DatabaseUnavailable}."""

    def late(result: T | Failure, _: float) -> T | Failure:
        if isinstance(result, Failure) and isinstance(result.value, CancelledError):
            raise unavailable(f"The database did not answer within {seconds:g} s")
        return result

    operation.addTimeout(seconds, clock, onTimeoutCancel=late)
    return operation


def is_name(host: str) -> bool:
    """Neither an address nor the folder of a UNIX socket."""
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def look_up(names: Sequence[str]) -> list[str]:
    """One address for each name. Blocks."""
    return [str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]) for name in names]


class Address:
    """Where the database is and who we are there, as libpq wants it.

    @param dsn: libpq's connection string or its parameters; a L{Secret} password is fine.
    @param deadline: seconds that the caller gives a statement; the server gives up a little later by itself.
    """

    def __init__(self, dsn: str | Mapping[str, object], deadline: float, application: str) -> None:
        parameters: dict[str, Any] = {
            "application_name": application,
            "client_encoding": "UTF8",
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
        }
        if isinstance(dsn, str):
            text = dsn
        else:
            text = ""
            parameters |= {k: v.reveal() if isinstance(v, Secret) else v for k, v in dsn.items()}
        self._dsn = Secret(make_dsn(text, **parameters))
        self.deadline = deadline

    async def dsn(self, reactor: Any) -> Secret:
        """The connection string, with addresses for host names: libpq would look those up while the reactor waits.

        @raise DatabaseUnavailable: a name is not known now.
        """
        text = self._dsn.reveal()
        known = parse_dsn(text)
        names = known.get("host", "").split(",")
        if "hostaddr" in known or not all(is_name(name) for name in names):
            return self._dsn
        looked_up = deferToThreadPool(reactor, reactor.getThreadPool(), look_up, names)
        try:
            return Secret(make_dsn(text, hostaddr=",".join(await looked_up)))
        except OSError as error:
            raise unavailable(f"The name of the database's host ({known['host']}): {error.strerror}") from None

    @property
    def set_up(self) -> dict[str, str]:
        """Parameters of C{SET_UP}."""
        return {"longest": str(math.ceil((self.deadline + 2) * 1000))}


class Meter:
    """What a set of connections has asked of the server.

    @ivar asked: statements that were sent.
    @ivar underway: statements, and connections being opened, that are not over.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.underway = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """One thing that the server is asked, to its end."""
        self.underway += 1
        try:
            yield
        finally:
            self.underway -= 1


class _Watched:
    """
    What the reactor watches instead of libpq's socket: a descriptor of our own for it.

    libpq closes its socket without a word. The reactor could not stop to watch it then (C{[Errno 9]}), would take the
    number for watched when another connection has it, and might end that one's watch.
    """

    _descriptor = -1
    pollable: Callable[[], Any]

    def fileno(self) -> int:
        """-1 when there is no socket."""
        if self._descriptor < 0 and not self.pollable().closed and (socket_number := self.pollable().fileno()) >= 0:
            self._descriptor = os.dup(socket_number)
        return self._descriptor

    def forget(self) -> None:
        """Close it. The reactor watches it no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def continuePolling(self, swallowErrors: bool = False) -> None:
        """Whoever calls this has ended the reactor's watch; with another address, libpq takes another socket."""
        self.forget()
        super().continuePolling(swallowErrors)  # type: ignore[misc]


class _Cursor(_Watched, txpostgres.Cursor):  # type: ignore[misc]
    """One statement's way through the reactor."""

    def continuePolling(self, swallowErrors: bool = True) -> None:
        # An error that nobody waits for shows again when the connection itself is read.
        super().continuePolling(swallowErrors=True)

    def drop(self) -> None:
        """See L{Link.drop}: while a statement runs, its cursor is what the reactor knows."""
        self._connection.drop()

    def _handleCancellation(self, failure: Failure) -> Failure:
        # The server's own cancellation (its time-out, an operator) is an error like others, not our CancelledError.
        return failure


class Link(_Watched, txpostgres.Connection):  # type: ignore[misc]
    """A connection that is open once and, when it is lost, stays so.

    @param gone: called once with this link and the reason, when it has died or was discarded.
    @param heard: called with channel and payload of each notification.
    @param meter: counts what is asked.
    """

    cursorFactory = _Cursor

    def __init__(
        self,
        reactor: Any,
        gone: Callable[[Link, str], None],
        heard: Callable[[str, str], None] | None = None,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(reactor)
        self._meter = meter or Meter()
        self._gone = gone
        self._heard = heard
        self._dead = False
        self._opened = False
        self._busy = False

    @property
    def dead(self) -> bool:
        """No statement can be run any more."""
        return self._dead

    async def open(self, address: Address) -> None:
        """Connect and set up the session.

        @raise DatabaseUnavailable: whatever hinders it, in libpq's words.
        """
        seconds = min(CONNECT_SECONDS, address.deadline)
        try:
            with self._meter.call():
                await within(self.reactor, seconds, Deferred.fromCoroutine(self._open(address)))
        except DatabaseUnavailable as error:
            self.discard(error.text)
            raise

    async def _open(self, address: Address) -> None:
        try:
            dsn = await address.dsn(self.reactor)
            await self._abortable(self.connect(dsn.reveal(), cursor_factory=RealDictCursor))
            self._opened = True
            await self.run(SET_UP, address.set_up)
        except psycopg2.Error as error:
            raise unavailable(reason_of(error)) from None

    async def run(self, sql: str, parameters: Parameters = ()) -> _Cursor:
        """Run one statement; cancelling closes the connection, whatever the server makes of the statement.

        As in psycopg2, a percent sign is only special when there are parameters.
        @raise psycopg2.Error: of the statement; the connection is kept.
        @raise DatabaseUnavailable: the connection is lost.
        """
        if self._dead:
            raise unavailable()
        if self._busy:
            raise RuntimeError("A connection runs one statement at a time")
        self._busy = True
        self._meter.asked += 1
        try:
            with self._meter.call():
                cursor: _Cursor = await self._abortable(self.cursor().execute(sql, parameters or None))
            self._look_for_notifies()
            return cursor
        except psycopg2.Error as error:
            if self._dead or self._connection.closed or (error.pgcode or "").startswith(PARTING):
                self.discard(reason_of(error))
                raise unavailable() from None
            raise
        finally:
            self._busy = False

    def _abortable(self, step: Deferred[Any]) -> Deferred[Any]:
        """The outcome of C{step}, without txpostgres's way to cancel it."""
        cancelled = False

        def cancel(_: Deferred[Any]) -> None:
            nonlocal cancelled
            cancelled = True
            self.discard("no answer in time")

        def settle(result: Any) -> None:
            if cancelled:
                return
            if isinstance(result, Failure) and isinstance(result.value, (ConnectionDone, ConnectionLost)):
                outcome.errback(unavailable())
            else:
                outcome.callback(result)

        outcome: Deferred[Any] = Deferred(cancel)
        step.addBoth(settle)
        return outcome

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """See L{qvd.interfaces.ITransaction}; and so the next two."""
        cursor = await self.run(sql, parameters)
        rows: Sequence[Row] = [] if cursor.description is None else cursor.fetchall()
        return rows

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        touched: int = (await self.run(sql, parameters)).rowcount
        return max(0, touched)

    def discard(self, reason: str) -> None:
        """Close the socket, now. Idempotent. What the server is doing for us it finishes, or ends when it notices."""
        if self._dead:
            return
        self._dead = True
        connection = self._connection
        if connection is not None:
            self._unwatch()
            self.close()
            # After a failed poll psycopg2 calls itself closed and still holds the socket.
            connection.close()
            self.forget()
        self._gone(self, reason)

    def drop(self) -> None:
        """Close the socket and tell nobody: what becomes of it when the process is killed. For simulations."""
        if self._connection is not None:
            self._unwatch()
            self._connection.close()

    def _unwatch(self) -> None:
        for each in (self, *self._cursors):
            self.reactor.removeReader(each)
            self.reactor.removeWriter(each)
            each.forget()

    def doRead(self) -> None:
        try:
            super().doRead()
        except (psycopg2.Error, txpostgres.UnexpectedPollResult) as error:
            self.discard(reason_of(error))
        except ValueError as error:
            self._without_socket(error)

    def cursorFinished(self, cursor: _Cursor) -> None:
        try:
            super().cursorFinished(cursor)
        except ValueError as error:
            self._without_socket(error)

    def _without_socket(self, error: ValueError) -> None:
        """The reactor refused the descriptor -1: libpq has closed the socket, which psycopg2 has not noticed yet."""
        if self.fileno() >= 0:
            raise error
        self.discard("the server closed the connection")

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        # While connecting, libpq may have another address to try.
        if self._opened:
            self.discard("the connection was cut")

    def _look_for_notifies(self) -> None:
        """A notification read together with an answer stays in libpq's buffer until it is asked again."""
        if self._heard is not None and not self._dead:
            self._connection.poll()
            self.checkForNotifies()

    def checkForNotifies(self) -> None:
        notifies = self._connection.notifies
        if notifies:
            rung, notifies[:] = list(notifies), []
            for notify in rung:
                if self._heard is not None:
                    self._heard(notify.channel, notify.payload)
