# -*- test-case-name: tests.unit.test_hypervisor_pidfd -*-
"""
Processes that are not our children, told from others that got their number later.

A process is a pid together with its start time; signals go through a pidfd, opened before the start time is compared.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

DEAD = frozenset("ZX")
"""States of C{/proc/PID/stat} in which a process runs no more, whoever has yet to reap it."""


@frozen
class ProcessId:
    """One process, for as long as the machine is up.

    @ivar started: clock ticks since boot (field 22 of C{/proc/PID/stat}).
    """

    pid: int
    started: int


def boot_id() -> str:
    """Changes when the machine boots, when all L{ProcessId}s lose their meaning."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def identify(pid: int) -> ProcessId | None:
    """The live process of that number, if there is one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold anything.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0].decode() in DEAD else ProcessId(pid, int(fields[19]))


def open_process(process: ProcessId) -> int | None:
    """A pidfd of exactly that process, or L{None} when it lives no more. The caller closes it."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if identify(process.pid) == process:
        return fd
    os.close(fd)
    return None


def send_signal(process: ProcessId, number: int) -> bool:
    """@return: whether there was such a process."""
    fd = open_process(process)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def first_child(init: ProcessId) -> ProcessId | None:
    """The process that the init of a pid namespace was started to run: the one that is number 2 inside."""
    try:
        children = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text("ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    for child in map(int, children):
        process = identify(child)
        if process is not None and number_inside(child) == 2 and identify(init.pid) == init:
            return process
    return None


def number_inside(pid: int) -> int | None:
    """A process's number in its innermost pid namespace."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


@implementer(IReadDescriptor)
class ExitReader:
    """Tells once when a process has exited."""

    def __init__(self, reactor: IReactorFDSet, pidfd: int, exited: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = pidfd
        self._exited = exited
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "pidfd"

    def doRead(self) -> None:
        self.close()
        self._exited()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self.close()

    def close(self) -> None:
        """Wait no more."""
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1


class ProcessGroupWatch:
    """Waits for several processes of one VM to be gone.

    @param gone: called once, when all are; from the reactor.
    """

    def __init__(self, reactor: IReactorFDSet, pidfds: Iterable[int], gone: Callable[[], None]) -> None:
        self._gone = gone
        self._readers = [ExitReader(reactor, fd, self._one_less) for fd in pidfds]
        self._left = len(self._readers)

    def _one_less(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._gone()

    def close(self) -> None:
        """Wait no more."""
        for reader in self._readers:
            reader.close()
