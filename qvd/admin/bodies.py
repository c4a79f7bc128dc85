# -*- test-case-name: tests.unit.test_admin_bodies -*-
"""A stream of bytes that comes faster than it can be stored: read in pieces, with its sender held back meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

HIGH = 256 * 1024
"""Bytes that wait, before the sender has to. One piece that is read from a socket comes on top."""


class BodyLost(Exception):
    """The stream has ended before its end."""


class Body(Protocol):
    """What is read from.

    @ivar length: bytes in all, where that is known.
    """

    length: int | None

    async def read(self) -> bytes:
        """What has come, as soon as something has; nothing: it is the end.

        @raise BodyLost: it ended before.
        """


class BodyStream:
    """A L{Body} that a protocol fills.

    @param pause: holds the sender back; C{resume} lets it go on. It begins held back, until somebody reads.
    """

    def __init__(self, length: int | None, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        self.length = length
        self._pause = pause
        self._resume = resume
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._lost: str | None = None
        self._held = False
        self._reader: Deferred[None] | None = None
        self._hold()

    async def read(self) -> bytes:
        """As in L{Body}. One reader at a time."""
        assert self._reader is None, "two read the same body"
        if not self._pieces and not self._ended and self._lost is None:
            self._reader = Deferred()
            self._release()
            try:
                await self._reader
            finally:
                self._reader = None
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        # While this piece is stored, the next one comes.
        if not self._ended:
            self._release()
        if not data and self._lost is not None:
            raise BodyLost(self._lost)
        return data

    def feed(self, data: bytes) -> None:
        """Something has come."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= HIGH:
            self._hold()
        self._wake()

    def end(self) -> None:
        """That was all."""
        self._ended = True
        self._release()
        self._wake()

    def lose(self, why: str) -> None:
        """Nothing will come any more, though it is not the end."""
        if not self._ended and self._lost is None:
            self._lost = why
            self._wake()

    def drop(self) -> None:
        """Nobody will read it: let it pass."""
        self._pieces.clear()
        self._size = 0
        self._release()

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self._pause()

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._resume()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.called:
            self._reader.callback(None)
