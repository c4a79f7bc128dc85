"""A secret that tests give away, and which must then be found nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

CANARY = "canary-9b27c1"


@contextmanager
def no_canary_in_the_log() -> Iterator[None]:
    """@raise AssertionError: it was logged: in a line, in one of its fields, in a traceback."""
    found: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        text = f"{formatEvent(event)} {event} {failure.getTraceback() if failure else ''}"
        if CANARY in text:
            found.append(text)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert found == []
