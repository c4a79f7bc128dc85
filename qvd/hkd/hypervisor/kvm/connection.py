# -*- test-case-name: tests.unit.test_kvm_connection -*-
"""
The connection to libvirt's daemon, which may be hung, killed, upgraded or not there at any time.

Each call runs in a thread and has a deadline. libvirt's own event loop runs in a thread as well, not in the reactor:
what it does in there takes libvirt's locks, and a lock may be held by a call that hangs. Only facts come out of it, by
C{callFromThread}. Keep-alive messages let it notice a daemon that is stopped; then the connection is closed, the calls
that hang in it fail, and a new one is made, again and again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import libvirt
from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.hypervisor.kvm.workers import IWorkersReactor, Workers
from qvd.model.errors import TransientError
from qvd.model.ids import VMId

T = TypeVar("T")
KEEP_ALIVE = (2, 3)
"""Seconds between two messages, and how many may stay without an answer."""
CONNECT_SECONDS = 5.0
"""For which a call waits for a connection."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to connect: twice as many each time."""
THREADS = 4
"""Calls at once."""


@frozen
class Lifecycle:
    """What has become of a domain.

    @ivar event: one of libvirt's C{VIR_DOMAIN_EVENT_...}; C{detail} says why.
    """

    name: str
    event: int
    detail: int


class IListener(Protocol):
    """Whoever wants to hear."""

    def connected(self) -> None:
        """There is a connection, again: events may have been missed."""

    def heard(self, what: Lifecycle) -> None:
        """A domain began, stopped, or the like."""


class EventLoop:
    """libvirt's, one for the process."""

    _started = False

    @classmethod
    def start(cls) -> None:
        """To be called before the first connection is opened."""
        if not cls._started:
            cls._started = True
            libvirt.virEventRegisterDefaultImpl()
            # Errors are exceptions; they need not be printed too.
            libvirt.registerErrorHandler(lambda context, error: None, None)
            threading.Thread(target=cls._run, name="libvirt events", daemon=True).start()

    @staticmethod
    def _run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


class Connection:
    """One that comes back.

    @param uri: as libvirt knows it: C{qemu:///system}.
    """

    log = Logger()

    def __init__(self, reactor: IWorkersReactor, uri: str) -> None:
        self._reactor = reactor
        self._uri = uri
        self._workers = Workers(reactor, "libvirt's daemon", THREADS)
        self._openers = Workers(reactor, "libvirt's daemon", 1)
        self._open: libvirt.virConnect | None = None
        self._opening = False
        self._wanted = True
        self._pause = FIRST_PAUSE
        self._retry: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        self._listener: IListener | None = None
        self._trouble = ""

    def listen(self, listener: IListener) -> None:
        """Connect, and stay connected."""
        self._listener = listener
        self._begin()

    @property
    def is_open(self) -> bool:
        """There is one, as far as we know."""
        return self._open is not None

    async def call(self, work: Callable[[libvirt.virConnect], T], seconds: float, turn: VMId | None = None) -> T:
        """Run C{work} with the connection, in a thread.

        @param seconds: for the call, once there is a connection.
        @param turn: see L{Workers.run}.
        @raise TransientError: the daemon is away, or did not answer in time.
        @raise libvirt.libvirtError: it said no.
        """
        connection = await self._connection()

        def guarded() -> T:
            try:
                return work(connection)
            except libvirt.libvirtError as error:
                if is_alive(connection):
                    raise
                raise TransientError(f"The connection to libvirt's daemon was lost: {error}") from error

        return await self._workers.run(seconds, guarded, turn)

    async def settle(self, vm_id: VMId, seconds: float) -> None:
        """Wait for a VM's earlier calls, also for those that nobody else waits for. That needs no connection.

        @raise TransientError: they did not end in time.
        """
        await self._workers.run(seconds, lambda: None, vm_id)

    def close(self) -> None:
        """Connect no more."""
        self._wanted = False
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._drop()
        self._workers.close()
        self._openers.close()

    async def _connection(self) -> libvirt.virConnect:
        if self._open is None:
            self._begin()
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            waiting.addTimeout(CONNECT_SECONDS, self._reactor)
            try:
                await waiting
            except TimeoutError:
                why = self._trouble or "it does not answer"
                raise TransientError(f"libvirt's daemon cannot be reached at {self._uri}: {why}") from None
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        assert self._open is not None
        return self._open

    def _begin(self) -> None:
        """Connect, unless that is under way. It may hang; then it is the only one that does."""
        if self._opening or self._open is not None or not self._wanted:
            return
        self._opening = True
        self._openers.begin(self._dial).addCallbacks(self._opened, self._failed)

    def _dial(self) -> libvirt.virConnect:
        """In a thread."""
        EventLoop.start()
        connection = libvirt.open(self._uri)
        optional(lambda: connection.setKeepAlive(*KEEP_ALIVE))
        optional(lambda: connection.registerCloseCallback(self._heard_close, None))
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._heard_lifecycle, None)
        return connection

    def _opened(self, connection: libvirt.virConnect) -> None:
        self._opening = False
        self._open = connection
        if not self._wanted:
            self._drop()
            return
        self._pause = FIRST_PAUSE
        self._trouble = ""
        self.log.info("connected to libvirt's daemon at {uri}", uri=self._uri)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        if self._listener is not None:
            self._listener.connected()

    def _failed(self, failure: Failure) -> None:
        self._opening = False
        trouble = failure.getErrorMessage()
        if trouble != self._trouble:
            self.log.error("no connection to libvirt's daemon at {uri}: {trouble}", uri=self._uri, trouble=trouble)
        self._trouble = trouble
        self._try_later()

    def _try_later(self) -> None:
        if self._wanted:
            self._retry = self._reactor.callLater(self._pause, self._begin)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _heard_close(self, connection: libvirt.virConnect, reason: int, opaque: None) -> None:
        """In the event loop's thread."""
        self._reactor.callFromThread(self._lost)

    def _heard_lifecycle(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, opaque: None
    ) -> None:
        """In the event loop's thread."""
        what = Lifecycle(domain.name(), event, detail)
        self._reactor.callFromThread(self._tell, what)

    def _tell(self, what: Lifecycle) -> None:
        if self._listener is not None:
            self._listener.heard(what)

    def _lost(self) -> None:
        if self._open is None:
            return
        if self._wanted:
            self.log.warn("the connection to libvirt's daemon at {uri} was lost", uri=self._uri)
        self._drop()
        self._try_later()

    def _drop(self) -> None:
        """Close it in a thread: its last reference must not be dropped in the reactor."""
        connection, self._open = self._open, None
        if connection is not None:
            self._openers.begin(lambda: optional(connection.close))


def optional(call: Callable[[], object]) -> None:
    """Not every driver of libvirt has everything."""
    try:
        call()
    except libvirt.libvirtError:
        pass


def is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False
