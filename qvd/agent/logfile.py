# -*- test-case-name: tests.unit.test_agent_logfile -*-
"""What other programs print, kept in a file that does not grow without bound."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import Logger

LIMIT = 1 << 20


class BoundedLog:
    """One file, and one older one with C{.1} to its name.

    @param path: L{None} keeps nothing.
    """

    log = Logger()

    def __init__(self, path: Path | None, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit

    def write(self, data: bytes) -> None:
        """Append. A log that cannot be written is told of once, and then given up: it must not end a session."""
        if self._path is None:
            return
        try:
            self._append(self._path, data[-self._limit :])
        except OSError as error:
            self.log.warn("{path}: {reason}; no longer written", path=str(self._path), reason=error.strerror)
            self._path = None

    def _append(self, path: Path, data: bytes) -> None:
        if size_of(path) + len(data) > self._limit:
            os.replace(path, f"{path}.1")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o640), "ab", buffering=0) as file:
            file.write(data)


def size_of(path: Path) -> int:
    """0 for a file that is not there."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
