# -*- test-case-name: tests.unit.test_hkd_serving -*-
"""The parts of a node that L{qvd.hkd.node.Node} starts and stops in order."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger


class Listener:
    """A listening port.

    @param open_port: begins to listen.
    @param what: names it in the log.
    """

    log = Logger()

    def __init__(self, open_port: Callable[[], IListeningPort], what: str) -> None:
        self._open_port = open_port
        self._what = what
        self._port: IListeningPort | None = None

    async def start(self) -> None:
        """@raise CannotListenError: somebody else has the port."""
        self._port = self._open_port()
        self.log.info("{what} on {address}", what=self._what, address=self._port.getHost())

    async def stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)


class Steps:
    """Anything with a way to start it and a way to stop it."""

    def __init__(self, start: Callable[[], Deferred[None] | None], stop: Callable[[], Deferred[None] | None]) -> None:
        self._start = start
        self._stop = stop

    async def start(self) -> None:
        await maybeDeferred(self._start)

    async def stop(self) -> None:
        await maybeDeferred(self._stop)
