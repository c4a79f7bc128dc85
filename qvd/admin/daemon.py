# -*- test-case-name: tests.admin.test_server -*-
"""Ordered start and stop of all that the administration is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from qvd.model.errors import DatabaseUnavailable, QVDError, Unavailable

RETRY = 2.0
"""Seconds between tries to begin, while the database is away."""


class Part(Protocol):
    """Something that is started and stopped, in order."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Daemon(Service):
    """The daemon.

    @param parts: started in this order, once the database is known to be right, and stopped in the other.
    @param pool: the database: started before, stopped after them.
    @param check: raises what is wrong with the database's schema.
    @param ready: called once, when callers are served.
    @param failed: called when it cannot go on, such as when its port is taken: the process must end.
    @param observer: of the log, instead of twistd's own.
    @ivar serving: callers are.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        pool: Part,
        parts: Sequence[Part],
        check: Callable[[], Awaitable[None]],
        ready: Callable[[], object],
        failed: Callable[[], object],
        stop_seconds: float,
        observer: Any = None,
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._parts = parts
        self._check = check
        self._ready = ready
        self._failed = failed
        self._stop_seconds = stop_seconds
        self._observer = observer
        self._started: list[Part] = []
        self._life: Deferred[None] | None = None
        self.serving = False

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks its application who writes the log, and this is the moment to tell."""
        if self._observer is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        Service.startService(self)  # type: ignore[no-untyped-call]
        self._life = Deferred.fromCoroutine(self._begin())
        self._life.addErrback(self._broken)

    def stopService(self) -> Deferred[None]:
        """Everybody is answered who can be, within a time."""
        Service.stopService(self)  # type: ignore[no-untyped-call]
        self.serving = False
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _begin(self) -> None:
        self._started.append(self._pool)
        try:
            await self._pool.start()
        except DatabaseUnavailable as error:
            self.log.warn("{reason}; waiting for it", reason=error.text)
        await self._await_schema()
        for part in self._parts:
            # First: one that was half started is stopped as well.
            self._started.append(part)
            await part.start()
        self.serving = True
        self._ready()

    async def _await_schema(self) -> None:
        """@raise QVDError: the schema is not one for this program."""
        while True:
            try:
                await self._check()
            except Unavailable:
                await deferLater(self._clock, RETRY)
            else:
                return

    def _broken(self, failure: Failure) -> None:
        match failure.value:
            case CancelledError():
                return
            case QVDError(text=text):
                self.log.critical("the administration cannot be served: {reason}", reason=text)
            case _:
                self.log.failure("the administration cannot be served", failure)
        self._failed()

    async def _close(self) -> None:
        while self._started:
            await self._stop(self._started.pop())

    async def _stop(self, part: Part) -> None:
        stopping = Deferred.fromCoroutine(part.stop())
        stopping.addTimeout(self._stop_seconds / 3, self._clock)
        try:
            await stopping
        except TimeoutError:
            self.log.warn("{part} did not stop in time", part=type(part).__name__)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001  the others are to be stopped all the same
            self.log.failure("stopping {part}", part=type(part).__name__)
