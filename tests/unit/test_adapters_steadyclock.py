"""Timers that a change of the time of day does not move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from qvd.protocols.adapters.steadyclock import count_on_uptime, uptime


@pytest.fixture
def reactor() -> Iterator[Any]:
    make: Any = EPollReactor
    made = make()
    yield made
    for call in made.getDelayedCalls():
        call.cancel()
    for reader in made.removeAll():
        reader.connectionLost(None)


def test_a_timer_is_due_by_the_machines_uptime(reactor: Any) -> None:
    count_on_uptime(reactor)
    before = uptime()
    call = reactor.callLater(5, lambda: None)
    assert before + 5 <= call.getTime() <= uptime() + 5


def test_the_time_of_day_does_not_count(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count_on_uptime(reactor)
    rung: list[bool] = []
    reactor.callLater(600, rung.append, True)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    reactor.runUntilCurrent()
    assert rung == []
    soon = uptime() + 1000
    reactor.seconds = lambda: soon
    reactor.runUntilCurrent()
    assert rung == [True]


def test_not_when_timers_are_set_already(reactor: Any) -> None:
    reactor.callLater(5, lambda: None)
    with pytest.raises(AssertionError):
        count_on_uptime(reactor)
