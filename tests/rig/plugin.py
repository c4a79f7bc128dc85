"""
pytest plugin: tests marked C{private} run in a private world, all in one pytest process there, one after the other.

They come last. The process outside starts the one inside when the first of them is due, and hands on its reports as
they come, so that a run has one list of results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any

import pytest

from tests.conftest import missing
from tests.rig import images, kernel
from tests.rig.world import World, obstacle, outside, private_world

REPORTS = "QVD_TEST_REPORTS"
"""Environment variable of the process inside: the descriptor to which it writes its reports."""

FAREWELL = 20.0
"""Seconds for the process inside to end its session."""


def is_inside() -> bool:
    """Whether this process runs in the private world."""
    return REPORTS in os.environ


class Inside:
    """Sends each report out, as a line of JSON."""

    def __init__(self, config: pytest.Config, out: IO[str]) -> None:
        self._config = config
        self._out = out

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._out.write(json.dumps(data, default=str) + "\n")
        self._out.flush()


class Outside:
    """Runs the private tests.

    @ivar world: in which they run; its control groups are there until the run ends.
    @ivar before: what was on the machine before it began.
    """

    def __init__(self) -> None:
        self.world: World | None = None
        self.before: dict[str, set[str]] = {}
        self._stack = ExitStack()
        self._items: Sequence[pytest.Item] = ()
        self._reports: IO[str] | None = None
        self._output = self._stack.enter_context(memory_file())
        self._obstacle: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=order)
        self._items = [item for item in items if item.get_closest_marker("private") is not None]
        if self._items:
            self._obstacle = obstacle()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if item not in self._items or self._obstacle is not None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports_of(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item in self._items:
            missing(f"private world: {self._obstacle}")

    def pytest_unconfigure(self) -> None:
        self.end()
        self._stack.close()

    def end(self) -> None:
        """Wait until the process inside has ended, and all others with it."""
        if self.world is not None:
            with suppress(subprocess.TimeoutExpired):
                self.world.process.wait(FAREWELL)
            self.world.kill()

    def _reports_of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        if self._reports is None:
            self._reports = self._begin(item.config)
        for line in self._reports:
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=json.loads(line))
            assert report.nodeid == item.nodeid, f"out of step: {report.nodeid} came for {item.nodeid}"
            yield report
            if report.when == "teardown":
                return
        text = f"the private world ended before this test did; it said last:\n{self._said()}"
        yield pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")

    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read()[-4000:]

    def _begin(self, config: pytest.Config) -> IO[str]:
        for kind in images.wanted_kinds(self._items):
            images.prepare(kind)
        names = self._stack.enter_context(memory_file())
        names.write("".join(f"{item.nodeid}\n" for item in self._items))
        names.flush()
        reading, writing = os.pipe()
        if any(item.get_closest_marker("kvm") is not None for item in self._items):
            kernel.fetch()
        self.before = outside()
        output = None if config.option.capture == "no" else self._output
        words = ["env", f"{REPORTS}={writing}", *python_words(config), f"@/proc/self/fd/{names.fileno()}"]
        self.world = self._stack.enter_context(private_world(words, (writing, names.fileno()), output))
        os.close(writing)
        return self._stack.enter_context(os.fdopen(reading))


def order(item: pytest.Item) -> int:
    """Private tests come after all others, and those that look at what they left come last."""
    return 2 if item.get_closest_marker("afterwards") else int(item.get_closest_marker("private") is not None)


def memory_file() -> IO[str]:
    return os.fdopen(os.memfd_create("tests"), "w+", errors="replace")


def python_words(config: pytest.Config) -> list[str]:
    """pytest inside: in the order given."""
    quiet = ["-p", "no:randomly", "-p", "no:cacheprovider", "--color=no"]
    capture = [f"--capture={config.option.capture}"]
    return [sys.executable, "-m", "pytest", *quiet, *capture]


def register(config: pytest.Config) -> None:
    """Called by C{conftest.py} at the start."""
    if is_inside():
        out = os.fdopen(int(os.environ[REPORTS]), "w")
        config.pluginmanager.register(Inside(config, out))
    else:
        config.pluginmanager.register(Outside(), "private-world")


def outside_of(config: pytest.Config) -> Outside:
    """The one that runs this run's private tests."""
    found: Any = config.pluginmanager.get_plugin("private-world")
    assert isinstance(found, Outside)
    return found
