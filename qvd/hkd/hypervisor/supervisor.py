# -*- test-case-name: tests.integration.test_sandbox -*-
"""
What the supervisors of VMs have in common, whatever the hypervisor: the locks, the deadline, the log, the answer.

A supervisor is a program of its own, run as C{python -I -S launch.py} of its driver. It starts one VM as its child and
then stays, so that the VM outlives the daemon. When it dies, the VM dies with it. It reads one line of JSON, the plan,
from standard input and answers with one line of JSON on standard output.

Only the standard library, and of that little: there is one of these for each VM.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

TAIL = 2048
"""Bytes of output kept for the sentence that says why a start failed."""
PLAN_LIMIT = 1 << 20
LATE = 0.3
"""Seconds by which the watchdog of the node goes first: it has a log."""
LONGEST, AGAIN = 3600.0, 0.1
"""Seconds for which nothing is looked at; between two tries to end the VM of a lease that is over."""

Take = Callable[[bytes], None]


class BoundedLog:
    """What the VM prints: one file and one older one, none much longer than C{limit}."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file = self._open()
        self._size = os.fstat(self._file).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """A log that cannot be written is no reason to stop the VM."""
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                os.replace(self._path, self._path + ".1")
                os.close(self._file)
                self._file = self._open()
                self._size = 0
            self._size += os.write(self._file, data)


class Deadline:
    """Until when the node may run this VM, for a supervisor whose daemon and watchdog are stopped or gone.

    The file is read again only when what it said has passed, so this costs nothing while the lease is kept. What was
    read last holds: a file that is gone or cannot be understood extends nothing.

    @param path: L{None}: there is no lease, and nothing is ever over.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._until = float("inf") if path is None else read_until(path)

    def left(self, late: float = 0.0) -> float:
        """Seconds to the deadline and C{late} more; none when it is over."""
        if self._path is not None and self._until + late <= uptime():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                self._until = read_until(self._path)
        return max(self._until + late - uptime(), 0.0)


class Supervisor:
    """One VM, from its locks to its end. Each driver's own starts the child and ends the VM.

    The plan has C{locks}, C{log} and C{init} (paths), C{lease} (path or L{None}) and C{log_limit}; the rest is the
    driver's.
    """

    program = "the program"
    """What the child runs, for the sentence of a failed start."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._log = BoundedLog(plan["log"], plan["log_limit"])
        self._locks: list[int] = []
        self._sources: dict[int, Take] = {}
        self._poll = select.poll()
        self._child = 0
        self._reported = False
        self._ending = False
        self._late = False
        self._tail = b""
        self._status: int | None = None

    def begin(self) -> None:
        """Start the child with L{_fork}, and L{_read} what tells of it.

        @raise OSError: it cannot be started; this is the sentence.
        """
        raise NotImplementedError

    def end(self) -> None:
        """End the VM; as soon as it has an init, where it has none yet. Asked again, do not wait for that."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            self._locks = [take_lock(path) for path in self._plan["locks"]]
        except BlockingIOError:
            self._report({"busy": True})
            return
        # The daemon may have been stopped since it looked itself.
        self._deadline = Deadline(self._plan["lease"])
        if not self._deadline.left():
            self._report({"error": "the lease of this node is over"})
            return
        self._read(self._catch_signals(), self._reap)
        self.begin()
        self._follow()
        self._report({"error": self._reason() or f"{self.program} ended ({self._status})"})
        self._log.write(b"ended, wait status %d\n" % (self._status or 0))

    def _reason(self) -> str:
        """Why the start failed, if it did and the output says so."""
        return last_line(self._tail)

    def _fork(self, become: Callable[[int, int], None]) -> None:
        """Start the child, whose output is logged.

        @param become: runs in it, with the descriptor for its output and the number of its parent, and does not return.
            An error is printed, for it to become the sentence of a failed start.
        """
        parent = os.getpid()
        reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.dup2(writing, 2)
                become(writing, parent)
            except BaseException as error:  # noqa: BLE001  a forked child must never go back into its parent's code
                os.write(writing, f"{sentence(error)}\n".encode())
            os._exit(1)
        os.close(writing)
        self._output = reading
        self._read(reading, self._copy)

    def _read(self, source: int, take: Take) -> None:
        """Hand over what comes from there, and at its end nothing."""
        os.set_blocking(source, False)
        self._sources[source] = take
        self._poll.register(source, select.POLLIN)

    def _read_no_more(self, source: int) -> None:
        self._poll.unregister(source)
        os.close(source)
        del self._sources[source]

    def _catch_signals(self) -> int:
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: self._end())
        return reading

    def _end(self) -> None:
        self.end()
        self._ending = True

    def _kill_setup(self) -> None:
        """What the child started and has not made a session of its own yet. It may wait for ever when the child
        itself has failed, and holds our locks and our pipe."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)

    def _follow(self) -> None:
        while self._status is None or self._output in self._sources:
            for source, _ in self._poll.poll(self._pause() * 1000):
                try:
                    data = os.read(source, 65536)
                except BlockingIOError:
                    continue
                self._sources[source](data)
                if not data:
                    self._read_no_more(source)

    def _pause(self) -> float:
        """Seconds to wait for anything to happen. Past the deadline the VM is ended, again and again, until it is."""
        left = self._deadline.left(LATE)
        if left:
            return min(left, LONGEST)
        if not self._late:
            self._late = True
            self._log.write(b"the lease of this node is over, and nobody else has ended this VM\n")
        self._end()
        return AGAIN

    def _reap(self, data: bytes) -> None:
        # Looked at before it is reaped: until then its number, also that of its group, is nobody else's.
        looking = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if self._status is None and os.waitid(os.P_PID, self._child, looking) is not None:
            self._kill_setup()
            self._status = os.waitpid(self._child, 0)[1]

    def _copy(self, data: bytes) -> None:
        self._log.write(data)
        if not self._reported:
            self._tail = (self._tail + data)[-TAIL:]

    def _report(self, answer: dict[str, Any]) -> None:
        """Answer once, then let go of the daemon's pipes."""
        if self._reported:
            return
        self._reported = True
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(answer).encode() + b"\n")
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.close(nothing)


def take_lock(path: str) -> int:
    """@raise BlockingIOError: another process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_until(path: str) -> float:
    """What the daemon has written down of its lease."""
    with open(path, "rb") as file:
        return float(json.load(file)["until"])


def start_time(pid: int) -> int:
    """Tells a process from others that get its number later."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def note_process(path: str, pid: int) -> None:
    """Write a process down with its start time."""
    temporary = path + ".new"
    with open(temporary, "w", encoding="ascii") as new:
        json.dump({"pid": pid, "started": start_time(pid)}, new)
    os.replace(temporary, path)


def sentence(error: BaseException) -> str:
    """An error for people. The reason comes last: by it the daemon knows what passes by itself."""
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error)


def last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def settle(descriptors: dict[int, int]) -> None:
    """In the child: a process group of its own, what programs expect of their start, and these descriptors besides an
    empty standard input.

    @param descriptors: number in the program: number here. The program inherits them.
    """
    os.setpgid(0, 0)
    # First out of the way of the numbers they are to get, then there; descriptors made by dup2 are inherited.
    parked = {number: fcntl.fcntl(old, fcntl.F_DUPFD_CLOEXEC, 20) for number, old in descriptors.items()}
    for number, old in parked.items():
        os.dup2(old, number)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    for each in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)
    os.umask(0o022)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))


def main(kind: type[Supervisor]) -> None:
    """Read the plan, and do it. Without a whole line the daemon has died."""
    os.setsid()
    os.umask(0o077)
    line = sys.stdin.buffer.readline(PLAN_LIMIT)
    if line.endswith(b"\n"):
        try:
            kind(json.loads(line)).run()
        except OSError as error:
            sys.exit(sentence(error))
