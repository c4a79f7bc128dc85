# -*- test-case-name: tests.unit.test_hkd_watchdog -*-
"""
The daemon's side of L{qvd.hkd.watchdog_launch}: keeps its file, and sees to it that the program runs.

Whether it runs is asked of its lock, so one that an earlier daemon started is adopted. The lock is taken here and
inherited by the program: there is no moment at which two are started, or at which it runs without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path

from attrs import frozen
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.hkd import watchdog_launch
from qvd.hkd.watchdog_launch import LEASE, LOCK, Promise, boot_id, identify
from qvd.interfaces import IDeadline
from qvd.model.errors import TransientError
from qvd.model.records import Lease

__all__ = ["LEASE", "IWatchdogReactor", "Watchdog"]

LAUNCH = str(Path(watchdog_launch.__file__).resolve())
LIMIT = 8192
"""Bytes of its complaints that are kept."""
FAREWELL, FAREWELL_LOOKS = 0.1, 30
"""Seconds between two looks whether it has ended, and how many."""


class IWatchdogReactor(IReactorProcess, IReactorTime):
    """What it takes of a reactor."""


class WatchdogProcess(ProcessProtocol):
    """Hears of its end. Before that, only of what keeps it from starting."""

    log = Logger()

    def __init__(self) -> None:
        self._errors = b""

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-LIMIT:]

    def processEnded(self, reason: Failure) -> None:
        if not isinstance(reason.value, ProcessDone):
            self.log.error(
                "the watchdog ended: {reason} {errors}",
                reason=reason.getErrorMessage(),
                errors=self._errors.decode("utf-8", "replace"),
            )


@implementer(IDeadline)
@frozen
class Watchdog:
    """Of one run folder.

    @param signals: file of the driver that says how its VMs are ended.
    @param wait: the daemon stops its VMs when it is stopped, so the watchdog ends too, and is waited for.
    """

    _reactor: IWatchdogReactor
    _run: Path
    _signals: Path
    _wait: bool

    log = Logger()

    def extend(self, lease: Lease, until: float) -> None:
        daemon = identify(os.getpid())
        assert daemon is not None
        text = Promise(boot_id(), lease.epoch, until, daemon).encode()
        try:
            self._run.mkdir(parents=True, exist_ok=True)
            self._write(text)
            self._ensure(text)
        except OSError as error:
            raise TransientError(f"The watchdog cannot be told of the lease: {error.strerror or error}") from error

    async def release(self) -> None:
        """Say goodbye: this daemon starts no VM any more. The watchdog ends as soon as none is left."""
        promise = self._own()
        if promise is None:
            return
        try:
            self._write(promise._replace(released=True).encode())
        except OSError as error:
            self.log.warn("the watchdog will learn of our end from our end: {reason}", reason=error.strerror)
        for _ in range(FAREWELL_LOOKS if self._wait else 0):
            if self._lock_is_free():
                return
            await deferLater(self._reactor, FAREWELL)
        if self._wait:
            self.log.warn("the watchdog has not ended: there is a VM left")

    def _own(self) -> Promise | None:
        """What we wrote last, if anything."""
        with contextlib.suppress(OSError, ValueError):
            promise = watchdog_launch.decode((self._run / LEASE).read_bytes())
            if promise.boot == boot_id() and promise.daemon == identify(os.getpid()):
                return promise
        return None

    def _write(self, text: str) -> None:
        """In one step. It need not survive the machine, so nothing is waited for."""
        path = self._run / LEASE
        temporary = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="ascii") as file:
            file.write(text)
        os.replace(temporary, path)

    def _ensure(self, text: str) -> None:
        """Start the program, unless it runs. After the file was written: see C{let_go} over there."""
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._spawn(lock, text)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _open_lock(self) -> int:
        return os.open(self._run / "watchdog.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _spawn(self, lock: int, text: str) -> None:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._reactor.spawnProcess(
                WatchdogProcess(),
                sys.executable,
                [sys.executable, "-I", "-S", LAUNCH, str(self._run), str(self._signals), text],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                path="/",
                childFDs={0: nothing, 1: nothing, 2: "r", LOCK: lock},
            )
        finally:
            os.close(nothing)
        self.log.info("watchdog started")

    def _lock_is_free(self) -> bool:
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True
