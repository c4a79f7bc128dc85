# -*- test-case-name: tests.unit.test_hkd_serving -*-
"""The parts of a node that L{qvd.hkd.node.Node} starts and stops in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger


class Listener:
    """A listening port, which a successor of this process may take over.

    @param open_port: begins to listen, on the socket it is given where there is one.
    @param what: names it in the log.
    @ivar inherited: descriptor of the socket, of a predecessor; to be set before the start.
    """

    log = Logger()

    def __init__(self, open_port: Callable[[int | None], IListeningPort], what: str) -> None:
        self._open_port = open_port
        self._what = what
        self._port: Any = None
        self.inherited: int | None = None

    async def start(self) -> None:
        """@raise CannotListenError: somebody else has the port."""
        inherited, self.inherited = self.inherited, None
        self._port = self._open_port(inherited)
        self.log.info("{what} on {address}", what=self._what, address=self._port.getHost())

    @property
    def is_open(self) -> bool:
        """It was started, and not stopped."""
        return self._port is not None

    def pause(self) -> int:
        """Accept nobody for a while: whoever comes waits in the kernel's queue.

        @return: descriptor of the socket, which stays ours.
        """
        self._port.stopReading()
        descriptor: int = self._port.fileno()
        return descriptor

    def resume(self) -> None:
        """Accept again."""
        self._port.startReading()

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
