"""Long answers: how fast they are written, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from qvd.admin.outlet import SLOWEST, Chunks
from qvd.admin.problems import Problem
from qvd.model.errors import DatabaseUnavailable
from tests.admin.listening import FakeRequest


class Answering:
    """An answer of five chunks, in the middle of which something may happen."""

    def __init__(self, happens: Exception | None = None) -> None:
        self.made = 0
        self.clock = Clock()
        self.request = FakeRequest()
        self.happens = happens
        self.run: Any = Chunks(self.clock, self.chunks()).writer()
        self.ended: Deferred[bytes] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for number in range(5):
            if number == 3 and self.happens is not None:
                raise self.happens
            self.made += 1
            yield b"%d" % number

    @property
    def over(self) -> bool:
        return self.ended is not None and bool(self.ended.called)

    def start(self) -> Deferred[bytes]:
        self.ended = Deferred.fromCoroutine(self.run(self.request))
        return self.ended


def test_written_at_once() -> None:
    answering = Answering()
    assert answering.start().result == b""
    assert (answering.request.written, answering.request.producer) == (b"01234", None)


def test_no_more_is_made_than_is_taken() -> None:
    answering = Answering()
    original = answering.request.write

    def write(data: bytes) -> None:
        original(data)
        if data == b"1":
            answering.request.producer.pauseProducing()
            answering.request.producer.pauseProducing()

    answering.request.write = write  # type: ignore[method-assign]
    ended = answering.start()
    assert (answering.made, answering.request.written) == (2, b"01")
    answering.request.producer.resumeProducing()
    assert ended.called and answering.request.written == b"01234"
    assert not answering.clock.getDelayedCalls()


def test_a_reader_that_takes_nothing_is_given_up() -> None:
    answering = Answering()
    answering.request.write = lambda data: answering.request.producer.pauseProducing()  # type: ignore[method-assign]
    answering.start()
    producer = answering.request.producer
    answering.clock.advance(SLOWEST - 1)
    before = answering.over
    answering.clock.advance(2)
    assert not before and answering.over and answering.request.aborted and answering.request.producer is None
    producer.resumeProducing()


@pytest.mark.parametrize("happens", [Problem("forbidden", "not any more"), DatabaseUnavailable("away")])
def test_what_breaks_off_is_not_taken_for_whole(happens: Exception) -> None:
    answering = Answering(happens)
    assert answering.start().called
    assert answering.request.written == b"012" and answering.request.aborted


def test_a_client_that_goes() -> None:
    answering = Answering()
    answering.request.write = lambda data: answering.request.producer.pauseProducing()  # type: ignore[method-assign]
    ended = answering.start()
    ended.cancel()
    failed: list[Any] = []
    ended.addErrback(failed.append)
    assert failed[0].check(CancelledError)
    assert (answering.made, answering.clock.getDelayedCalls()) == (1, [])
