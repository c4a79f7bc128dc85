"""Fixtures of the contract tests of the database layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import LogLevel, globalLogPublisher

from tests.fakes.postgres import RealPostgres, empty_database
from tests.fakes.tcp_proxy import FaultyProxy

__all__ = ["empty_database"]


@pytest_twisted.async_yield_fixture
async def proxy(postgres: RealPostgres) -> AsyncIterator[tuple[FaultyProxy, int]]:
    """A proxy to the database server's port, and its own."""
    postgres.start()
    faulty = FaultyProxy(reactor, postgres.port)
    yield faulty, faulty.start()
    await faulty.stop()


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What the database layer logs at level info and above."""
    events: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] >= LogLevel.info and event["log_namespace"].startswith("qvd.db"):
            events.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield events
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
