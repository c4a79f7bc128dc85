"""Fixtures of all tiers, and two rules: a lost failure fails, a missing prerequisite is named."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from typing import NoReturn

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import provider

from tests.fakes.postgres import database, empty_database, postgres, schema_template

__all__ = ["database", "empty_database", "postgres", "schema_template"]


def missing(what: str) -> NoReturn:
    """Skip the test, and say what it lacks; in CI that is an error."""
    message = f"missing: {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"prerequisite {message}", pytrace=False)
    pytest.skip(message)


def require(*programs: str) -> None:
    """Skip the test, by name, where a program is missing; in CI that is an error."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        missing(", ".join(absent))


def pytest_configure(config: pytest.Config) -> None:
    """Tests marked C{private} run in a world of their own."""
    from tests.rig import plugin

    plugin.register(config)


@pytest.fixture(autouse=True)
def no_lost_failures(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Deferred that fails with nobody looking fails the test: pytest-twisted alone lets it pass."""
    lost: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        text = str(event.get("log_format") or "")
        if event.get("log_level") is LogLevel.critical and "Unhandled error in Deferred" in text:
            lost.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    gc.collect(0)
    globalLogPublisher.removeObserver(observe)
    if lost and request.node.get_closest_marker("loses_failures") is None:
        failures = [str(event.get("log_failure")) for event in lost]
        pytest.fail(f"unhandled failure in a Deferred: {failures}", pytrace=False)
