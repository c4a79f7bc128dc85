"""One connection of events: what it holds for a slow reader, and how it ends."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.admin.call import Call
from qvd.admin.events import stream
from qvd.admin.events.stream import Stream, frame
from qvd.interfaces.events import Position
from tests.admin.listening import FakeRequest, events_in

FIRST, SECOND, THIRD = Position(10, 100), Position(20, 101), Position(30, 102)
CHUNK = frame("changed", {"id": 1})


class Opened:
    """A stream that is open."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.request = FakeRequest()
        self.stream = Stream(self.clock, cast(Call, None), (), FIRST)
        self.done: Deferred[Any] = Deferred.fromCoroutine(self.stream.run(self.request, frame("hello", {})))

    def ended(self) -> bool:
        return bool(self.done.called)

    @property
    def names(self) -> list[str]:
        return [each.name for each in events_in(self.request.written)]


@pytest.fixture
def opened() -> Opened:
    return Opened()


def test_written_at_once(opened: Opened) -> None:
    opened.stream.send(CHUNK, SECOND)
    assert opened.names == ["hello", "changed"] and opened.stream.position == SECOND


def test_slow_reader_gets_what_waited(opened: Opened) -> None:
    opened.request.producer.pauseProducing()
    opened.stream.send(CHUNK, SECOND)
    assert opened.names == ["hello"]
    opened.request.producer.resumeProducing()
    assert opened.names == ["hello", "changed"]


def test_too_slow_reader_is_told_to_read_anew(opened: Opened) -> None:
    opened.request.producer.pauseProducing()
    big = frame("changed", {"text": "x" * (stream.BOUND // 2)})
    opened.stream.send(big, SECOND)
    opened.stream.send(big, SECOND)
    opened.stream.send(CHUNK, THIRD)
    opened.request.producer.resumeProducing()
    [_, told] = events_in(opened.request.written)
    assert (told.name, told.id) == ("resync", "30-102")
    opened.stream.send(CHUNK, THIRD)
    assert opened.names == ["hello", "resync", "changed"]


def test_reader_that_takes_nothing_is_given_up(opened: Opened) -> None:
    opened.request.producer.pauseProducing()
    opened.clock.advance(stream.SLOWEST - 1)
    opened.stream.beat(15)
    assert not opened.ended()
    opened.clock.advance(2)
    opened.stream.beat(15)
    assert opened.ended() and opened.request.aborted and opened.request.producer is None


def test_heartbeat_has_the_position(opened: Opened) -> None:
    opened.stream.position = SECOND
    opened.clock.advance(14)
    opened.stream.beat(15)
    assert b"beat" not in opened.request.written
    opened.clock.advance(1)
    opened.stream.beat(15)
    assert opened.request.written.endswith(b": beat\nid: 20-101\n\n")


def test_revoked(opened: Opened) -> None:
    opened.stream.end(frame("revoked", {}))
    assert opened.names == ["hello", "revoked"] and opened.ended() and not opened.request.aborted
    opened.stream.end()
    opened.stream.send(CHUNK, SECOND)
    assert opened.names == ["hello", "revoked"]


def test_revoked_while_nothing_is_taken(opened: Opened) -> None:
    """What waits is not sent."""
    opened.request.producer.pauseProducing()
    opened.stream.send(CHUNK, SECOND)
    opened.stream.end(frame("revoked", {}))
    assert opened.names == ["hello"] and opened.request.aborted and opened.ended()


def test_client_goes(opened: Opened) -> None:
    opened.done.addErrback(lambda failure: None)
    opened.done.cancel()
    opened.stream.send(CHUNK, SECOND)
    assert opened.names == ["hello"] and not opened.stream.open
