# -*- test-case-name: tests.unit.test_hkd_roster -*-
"""
Which processes of this node are alive: each holds the lock of a file of its own below the run folder.

The kernel lets go of a lock with the process, however it ends. So nobody has to say goodbye, and nobody can be taken
for dead that only has not called yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from qvd.model.errors import TransientError

FOLDER = "daemons"
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Roster:
    """The daemons of one run folder, as one of them sees it.

    @param instance: UUID of this process.
    """

    def __init__(self, run: Path, instance: str) -> None:
        self._folder = run / FOLDER
        self._instance = instance
        self._lock: int | None = None

    def enter(self) -> None:
        """From now on this process is alive.

        @raise TransientError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while self._lock is None:
                self._lock = self._take(self._folder / self._instance)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise TransientError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _take(self, path: Path) -> int | None:
        """L{None}: somebody has taken the file for that of a dead process meanwhile."""
        descriptor = os.open(path, FLAGS, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
        return None

    def leave(self) -> None:
        """Serve nobody any more."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                (self._folder / self._instance).unlink()
            os.close(lock)

    def living(self) -> Collection[str]:
        """Those that are alive. Files of others are removed.

        @raise TransientError: the folder cannot be read: nobody may be taken for dead.
        """
        try:
            return [path.name for path in self._folder.iterdir() if self._is_alive(path)]
        except OSError as error:
            raise TransientError(f"{self._folder} cannot be read: {error.strerror or error}") from error

    def _is_alive(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, FLAGS & ~os.O_CREAT)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
