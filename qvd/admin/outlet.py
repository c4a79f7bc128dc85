# -*- test-case-name: tests.unit.test_admin_outlet -*-
"""A long answer, written no faster than its reader takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from qvd.admin.problems import Problem
from qvd.model.errors import QVDError

SLOWEST = 60.0
"""Seconds after which a reader that takes nothing is given up."""


@implementer(IPushProducer)
@define(eq=False)
class Outlet:
    """Writes to a request, and waits while the transport holds enough."""

    clock: IReactorTime
    request: Any
    _free: Deferred[None] | None = None

    async def write(self, chunk: bytes) -> None:
        """@raise TimeoutError: the reader takes nothing."""
        self.request.write(chunk)
        if self._free is not None:
            self._free.addTimeout(SLOWEST, self.clock)
            await self._free

    def pauseProducing(self) -> None:
        if self._free is None:
            self._free = Deferred()

    def resumeProducing(self) -> None:
        free, self._free = self._free, None
        if free is not None and not free.called:
            free.callback(None)

    def stopProducing(self) -> None:
        """Whoever waits is cancelled by the server."""


@define(eq=False)
class Chunks:
    """The stream of an answer (L{qvd.admin.call.Answer}): some bytes after the other.

    What breaks off is seen by its reader as broken off, never as complete: the head is sent long before.
    """

    clock: IReactorTime
    chunks: AsyncIterator[bytes]
    log = Logger()

    def writer(self) -> Callable[[Any], Awaitable[bytes]]:
        """What writes it to a request."""
        return self._run

    async def _run(self, request: Any) -> bytes:
        outlet = Outlet(self.clock, request)
        request.registerProducer(outlet, True)
        try:
            async for chunk in self.chunks:
                await outlet.write(chunk)
        except TimeoutError:
            request.transport.abortConnection()
        except Problem as problem:
            self.log.info("a long answer is broken off: {reason}", reason=problem.detail)
            request.transport.abortConnection()
        except QVDError as error:
            self.log.warn("a long answer is broken off: {reason}", reason=error.text)
            request.transport.abortConnection()
        # Where the client is gone, this is cancelled, and there is nothing to unregister from.
        request.unregisterProducer()
        return b""
