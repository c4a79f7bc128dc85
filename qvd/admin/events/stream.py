# -*- test-case-name: tests.unit.test_admin_events_stream -*-
"""One connection that events are written to (server-sent events: HTML Standard, section 9.2), with a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from qvd.admin.call import Call
from qvd.interfaces.events import Position

BOUND = 256 * 1024
"""Bytes that wait for a slow reader, besides those that the transport holds."""
SLOWEST = 60.0
"""Seconds after which a reader that takes nothing is given up."""
encode = msgspec.json.Encoder(enc_hook=str).encode


def frame(event: str, data: Any) -> bytes:
    """An event. A line C{id:} may be put before it."""
    return b"event: " + event.encode() + b"\ndata: " + encode(data) + b"\n\n"


def id_line(position: Position) -> bytes:
    """What a client names when it comes back."""
    return f"id: {position.xid}-{position.at}\n".encode()


@implementer(IPushProducer)
class Stream:
    """A connection.

    @param call: the request that opened it, by which its caller is identified again.
    @param topics: what it watches (L{qvd.admin.events.topics.Topic}).
    @ivar position: all before it was sent, or given up.
    @ivar checked: when its caller was known to be entitled.
    """

    def __init__(self, reactor: Any, call: Call, topics: Sequence[Any], position: Position) -> None:
        self._reactor = reactor
        self.call = call
        self.topics = topics
        self.position = position
        self.checked = self._written = reactor.seconds()
        self._request: Any = None
        self._done: Deferred[bytes] | None = None
        self._paused: float | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._lost = False

    async def run(self, request: Any, first: bytes) -> bytes:
        """Write events to a request until it is over.

        @param first: what it begins with.
        """
        done = self._done = Deferred()
        self._request = request
        request.registerProducer(self, True)
        self._write(first)
        try:
            last = await done
        finally:
            self._done = None
        # Where the client is gone, this is cancelled, and there is nothing to unregister from.
        request.unregisterProducer()
        return last

    @property
    def open(self) -> bool:
        """Whether it can be written to."""
        return self._done is not None

    def send(self, chunk: bytes, position: Position) -> None:
        """Write events, or keep them for a reader that is slow."""
        self.position = position
        if not self.open or self._lost:
            return
        if self._paused is None:
            self._write(chunk)
            return
        self._size += len(chunk)
        if self._size > BOUND:
            self.lose(position)
        else:
            self._waiting.append(chunk)

    def lose(self, position: Position) -> None:
        """Give up what it has not got: it is told to read anew, as soon as it can be told."""
        self.position = position
        self._lost = True
        self._waiting, self._size = [], 0

    def beat(self, every: float) -> None:
        """Tell what was lost; or, after C{every} seconds of silence, that the connection stands."""
        now = self._reactor.seconds()
        if self._paused is not None:
            if now - self._paused > SLOWEST:
                self.abort()
        elif self._lost:
            self._flush()
        elif self.open and now - self._written >= every:
            self._write(b": beat\n" + id_line(self.position) + b"\n")

    def end(self, last: bytes = b"") -> None:
        """Close it."""
        done, self._done = self._done, None
        if done is None:
            return
        if self._paused is not None:
            # What it has not taken would stand before the end.
            self._request.transport.abortConnection()
        elif last:
            self._request.write(last)
        done.callback(b"")

    def abort(self) -> None:
        """Close it without another word."""
        self._paused = self._reactor.seconds()
        self.end()

    def pauseProducing(self) -> None:
        self._paused = self._reactor.seconds()

    def resumeProducing(self) -> None:
        self._paused = None
        self._flush()

    def stopProducing(self) -> None:
        self._waiting, self._size = [], 0

    def _flush(self) -> None:
        waiting, self._waiting, self._size = b"".join(self._waiting), [], 0
        if self._lost:
            self._lost = False
            waiting = id_line(self.position) + frame("resync", {"reason": "behind"})
        if waiting:
            self._write(waiting)

    def _write(self, chunk: bytes) -> None:
        if self.open:
            self._written = self._reactor.seconds()
            self._request.write(chunk)
