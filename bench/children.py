"""Processes under test: started with a deadline, measured through C{/proc}, always stopped."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

START_SECONDS = 15.0
STOP_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A figure cannot be measured."""


class Child:
    """A process that tells its port.

    Use as a context manager: on leaving, the process is gone.
    @ivar port: where it listens on 127.0.0.1.
    """

    def __init__(self, argv: Sequence[str], port: int | None = None) -> None:
        """
        @param port: where it will listen, if that is known beforehand; otherwise it prints its port, as a line.
        """
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            self.port = self._read_port() if port is None else port
            self._await_listening()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_kib(self) -> float:
        """Resident memory."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / 1024

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if readable else b""
        if not line.strip().isdigit():
            raise BenchError(f"{self._process.args!r} did not tell its port")
        return int(line)

    def _await_listening(self) -> None:
        """Dial until somebody answers: a refusal comes at once, so leave the process some time between two."""
        for _ in range(int(START_SECONDS / 0.05)):
            try:
                socket.create_connection(("127.0.0.1", self.port), START_SECONDS).close()
                return
            except ConnectionRefusedError:
                if self._process.poll() is not None:
                    break
                select.select([], [], [], 0.05)
        raise BenchError(f"{self._process.args!r} does not listen")


def python(module: str, *arguments: str) -> list[str]:
    """Command line of a module of this package."""
    return [sys.executable, "-m", f"bench.{module}", *arguments]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
