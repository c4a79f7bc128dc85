# -*- test-case-name: tests.unit.test_auth_local -*-
"""
Passwords of local users: argon2id, computed in threads of its own.

One verification takes some 30 ms of a core and 19 MiB, so both the threads and the queue before them are bounded:
a flood of logins is answered with "later" and never holds up the reactor.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from qvd.interfaces import IHasher, IPasswordAuthenticator, IUsers
from qvd.model.errors import AuthenticationFailed, Unavailable
from qvd.model.records import User
from qvd.model.secret import Secret

T = TypeVar("T")

REFUSED = "Authentication failed"
PARAMETERS = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def _new_dummy() -> str:
    """A well-formed hash that no password has: verifying against it costs what a real one costs."""

    def random(count: int) -> str:
        return base64.b64encode(os.urandom(count)).decode("ascii").rstrip("=")

    costs = f"m={PARAMETERS.memory_cost},t={PARAMETERS.time_cost},p={PARAMETERS.parallelism}"
    return f"$argon2id$v=19${costs}${random(PARAMETERS.salt_len)}${random(PARAMETERS.hash_len)}"


DUMMY = _new_dummy()


def encode(password: str) -> bytes:
    """The bytes that are hashed. What was not UTF-8 on the wire arrives as surrogates and must not raise here."""
    return password.encode("utf-8", "surrogatepass")


def is_readable(stored: str) -> bool:
    """True for an argon2 hash."""
    try:
        argon2.extract_parameters(stored)
    except InvalidHashError:
        return False
    return True


def is_outdated(stored: str) -> bool:
    """True for an argon2 hash with other parameters than today's."""
    return PARAMETERS.check_needs_rehash(stored)


def check(stored: str | None, password: str) -> bool:
    """Compare, in a worker thread. Takes as long where there is nothing to compare with.

    @raise Unavailable: the computation itself failed, so nothing is known about the password.
    """
    known = stored is not None and is_readable(stored)
    try:
        PARAMETERS.verify(stored if known and stored is not None else DUMMY, encode(password))
    except VerifyMismatchError:
        return False
    except VerificationError:
        raise Unavailable("The password cannot be checked now", retry_after=5) from None
    return known


class Job(Generic[T]):
    """One computation, and who waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.result: Deferred[T] = Deferred(lambda _: self.abandon())
        self._work = work
        self._abandoned = False

    def abandon(self) -> None:
        """Nobody waits any more: skip the work if it has not begun."""
        self._abandoned = True

    def perform(self) -> T | None:
        """In a worker thread."""
        return None if self._abandoned else self._work()

    def finish(self, success: bool, value: Any) -> None:
        """In the reactor's thread."""
        if self.result.called:
            return
        if success:
            self.result.callback(value)
        else:
            self.result.errback(value)


@implementer(IHasher)
class Argon2Hasher:
    """L{IHasher} with argon2id.

    @param workers: threads.
    @param most_waiting: how many may be computed or wait at a time; whoever comes then is refused.
    @param pool: given by tests.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        workers: int = 2,
        most_waiting: int = 64,
        pool: ThreadPool | None = None,
    ) -> None:
        self._reactor = reactor
        self._most_waiting = most_waiting
        self._pool = pool or ThreadPool(minthreads=0, maxthreads=workers, name="argon2")
        self._jobs: set[Job[Any]] = set()
        self._running = False

    def start(self) -> None:
        """Begin to take work."""
        self._pool.start()
        self._running = True

    def stop(self) -> None:
        """Refuse whoever waits."""
        if not self._running:
            return
        self._running = False
        for job in tuple(self._jobs):
            job.abandon()
            job.finish(False, Failure(Unavailable("The node is stopping")))  # type: ignore[no-untyped-call]

    def join(self) -> None:
        """After L{stop}, and in a thread: end ours, which waits for the computations under way."""
        self._pool.stop()

    async def verify(self, stored: str | None, password: str) -> bool:
        return await self._submit(lambda: check(stored, password))

    async def hash(self, password: str) -> str:
        return await self._submit(lambda: PARAMETERS.hash(encode(password)))

    def _submit(self, work: Callable[[], T]) -> Deferred[T]:
        """@raise Unavailable: too much waits already, or the pool is not running."""
        if not self._running:
            raise Unavailable("Logins are not served now", retry_after=2)
        if len(self._jobs) >= self._most_waiting:
            self.log.warn("{count} logins wait: refusing more", count=len(self._jobs))
            raise Unavailable("There are too many logins at once", retry_after=2)
        job = Job(work)
        self._jobs.add(job)

        def computed(success: bool, value: Any) -> None:
            self._reactor.callFromThread(self._finish, job, success, value)

        self._pool.callInThreadWithCallback(computed, job.perform)
        return job.result

    def _finish(self, job: Job[Any], success: bool, value: Any) -> None:
        # Only now is the place free: a client that gave up does not make room for the next computation.
        self._jobs.discard(job)
        job.finish(success, value)


@implementer(IPasswordAuthenticator)
@frozen
class LocalAuthenticator:
    """L{IPasswordAuthenticator} over the accounts in the database. All refusals look and last the same."""

    log = Logger()

    users: IUsers
    hasher: IHasher

    async def authenticate(self, tenant: str, login: str, password: Secret) -> User:
        # What the database cannot hold as a text cannot be anybody's name.
        user = await self.users.find(tenant, login) if f"{tenant}{login}".isprintable() else None
        stored = user.password if user is not None else None
        right = await self.hasher.verify(None if stored is None else stored.reveal(), password.reveal())
        if user is None or stored is None or user.blocked or not right or not password.reveal():
            raise AuthenticationFailed(REFUSED)
        if is_outdated(stored.reveal()):
            await self._renew(user, password)
        return user

    async def _renew(self, user: User, password: Secret) -> None:
        """Store a hash with today's parameters. The login is right even where that cannot be done now."""
        try:
            new = await self.hasher.hash(password.reveal())
            if user.password is not None:
                await self.users.rehash(user.user_id, user.password, new)
        except Unavailable as error:
            self.log.warn("user {user_id}: password not rehashed: {reason}", user_id=user.user_id, reason=error.text)
