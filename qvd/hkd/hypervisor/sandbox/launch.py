# -*- test-case-name: tests.integration.test_sandbox -*-
"""
The supervisor of one sandbox VM: a program of its own, run as C{python -I -S launch.py}.

It locks the home, mounts the overlay where there is one, runs bubblewrap, notes its init, and then stays, so that the
VM outlives the daemon: it keeps the log within its bound and the lock held. When it dies, the VM dies with it.

It reads one line of JSON (see L{main}) from standard input and answers with one line of JSON on standard output. Only
the standard library, and of that little: there is one of these for each VM.
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
from typing import Any

READY, INFO, LOCK, OPTIONS = 3, 4, 5, 6
"""Descriptors as bubblewrap gets them; the guest's first command knows the numbers (C{HANDSHAKE} in C{root.py})."""
TAIL = 2048
"""Bytes of output kept for the sentence that says why a start failed."""
PLAN_LIMIT = 1 << 20
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
LATE = 0.3
"""Seconds by which the watchdog of the node goes first: it has a log."""
LONGEST, AGAIN = 3600.0, 0.1
"""Seconds for which nothing is looked at; between two tries to end the VM of a lease that is over."""


class BoundedLog:
    """What the guest's agent prints: one file and one older one, none much longer than C{limit}."""

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
    """One VM, from its lock to its end."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._log = BoundedLog(plan["log"], plan["log_limit"])
        self._lock = -1
        self._child = 0
        self._init: int | None = None
        self._info = b""
        self._ready = False
        self._reported = False
        self._ending = False
        self._late = False
        self._tail = b""
        self._status: int | None = None

    def run(self) -> None:
        try:
            self._lock = take_lock(self._plan["lock"])
        except BlockingIOError:
            self._report({"busy": True})
            return
        # The daemon may have been stopped since it looked itself.
        self._deadline = Deadline(self._plan["lease"])
        if not self._deadline.left():
            self._report({"error": "the lease of this node is over"})
            return
        self._follow(*self._spawn())
        self._report({"error": last_line(self._tail) or f"bubblewrap ended ({self._status})"})
        self._log.write(b"sandbox ended, wait status %d\n" % (self._status or 0))

    def _spawn(self) -> tuple[int, int, int, int]:
        """Start bubblewrap.

        @return: what to read: signals, output, the "ready" pipe, the info pipe.
        """
        wake, parent = self._catch_signals(), os.getpid()
        output, ready, info = os.pipe(), os.pipe(), os.pipe()
        descriptors = {1: output[1], 2: output[1], READY: ready[1], INFO: info[1], LOCK: self._lock}
        self._child = os.fork()
        if self._child == 0:
            run_child(self._plan, descriptors, parent)
        for pipe in (output, ready, info):
            os.close(pipe[1])
            os.set_blocking(pipe[0], False)
        return wake, output[0], ready[0], info[0]

    def _catch_signals(self) -> int:
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._end)
        return reading

    def _end(self, number: int, frame: object) -> None:
        """End the VM; as soon as it has an init, where it has none yet. Asked again, do not wait for that."""
        if self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        elif self._ending and self._child and self._status is None:
            self._kill_setup()
        self._ending = True

    def _kill_setup(self) -> None:
        """What bubblewrap started and has not made a session of its own yet. Its child waits for ever when bubblewrap
        itself fails before it has told it to go on, and holds our lock and our pipe."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)

    def _follow(self, wake: int, output: int, ready: int, info: int) -> None:
        sources = {wake: self._reap, output: self._copy, ready: self._see_ready, info: self._see_info}
        poll = select.poll()
        for source in sources:
            poll.register(source, select.POLLIN)
        while self._status is None or output in sources:
            for source, _ in poll.poll(self._pause() * 1000):
                try:
                    data = os.read(source, 65536)
                except BlockingIOError:
                    continue
                sources[source](data)
                if not data:
                    poll.unregister(source)
                    os.close(source)
                    del sources[source]

    def _pause(self) -> float:
        """Seconds to wait for anything to happen. Past the deadline the VM is ended, again and again, until it is."""
        left = self._deadline.left(LATE)
        if left:
            return min(left, LONGEST)
        if not self._late:
            self._late = True
            self._log.write(b"the lease of this node is over, and nobody else has ended this VM\n")
        self._end(signal.SIGTERM, None)
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

    def _see_ready(self, data: bytes) -> None:
        self._ready = self._ready or bool(data)
        self._report_start()

    def _see_info(self, data: bytes) -> None:
        self._info += data
        if data or not self._info:
            return
        # It may be gone by now, or bubblewrap before it had written all of this.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            pid = json.loads(self._info)["child-pid"]
            self._init = os.pidfd_open(pid)
            note_process(self._plan["init"], pid)
        if self._ending:
            self._end(signal.SIGTERM, None)
        self._report_start()

    def _report_start(self) -> None:
        if self._ready and self._init is not None:
            self._report({"started": True})

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


def note_process(path: str, pid: int) -> None:
    """Write a process down with its start time, so that a successor of its number is not taken for it."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        started = int(file.read().rpartition(b")")[2].split()[19])
    temporary = path + ".new"
    with open(temporary, "w", encoding="ascii") as new:
        json.dump({"pid": pid, "started": started}, new)
    os.replace(temporary, path)


def last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def run_child(plan: dict[str, Any], descriptors: dict[int, int], parent: int) -> None:
    """Become bubblewrap. Never returns; an error is printed, for it to become the sentence of a failed start."""
    try:
        os.setpgid(0, 0)
        # First out of the way of the numbers they are to get, then there; descriptors made by dup2 are inherited.
        descriptors[OPTIONS] = options_file(plan["options"])
        parked = {number: fcntl.fcntl(old, fcntl.F_DUPFD_CLOEXEC, 20) for number, old in descriptors.items()}
        for number, old in parked.items():
            os.dup2(old, number)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))
        prepare_namespace(plan["overlay"], parent)
        words = ["--info-fd", str(INFO), "--sync-fd", str(LOCK), "--args", str(OPTIONS), "--", *plan["command"]]
        os.execvp("bwrap", ["bwrap", *words])
    except BaseException as error:  # noqa: BLE001  a forked child must never go back into its parent's code
        os.write(2, f"{error}\n".encode())
    os._exit(1)


def options_file(options: list[str]) -> int:
    """The guest can see bubblewrap's command line, and need not see where things lie on the host."""
    fd = os.memfd_create("options", os.MFD_CLOEXEC)
    os.write(fd, b"".join(option.encode() + b"\0" for option in options))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def prepare_namespace(overlay: dict[str, str] | None, parent: int) -> None:
    """In the child: die with the supervisor, and mount the overlay where nobody else sees it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")

    def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
        texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
        flag_word = ctypes.c_ulong(flags)
        check(libc.mount(texts[0], texts[1], texts[2], flag_word, texts[3]), f"mount on {target}")

    if overlay is not None:
        user, group = os.getuid(), os.getgid()
        check(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)), "unshare")
        if user:
            write_map("setgroups", "deny")
            write_map("uid_map", f"0 {user} 1")
            write_map("gid_map", f"0 {group} 1")
        mount(None, "/", None, MS_REC | MS_PRIVATE, None)
        mount("overlay", overlay["merged"], "overlay", 0, overlay_options(overlay, rooted=user == 0))
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def write_map(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


def overlay_options(overlay: dict[str, str], *, rooted: bool) -> str:
    """Folders are named by descriptor: no character of a path can end an option, no link can lead elsewhere."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parts = [f"{name}dir=/proc/self/fd/{os.open(overlay[name], flags)}" for name in ("lower", "upper", "work")]
    return ",".join(parts if rooted else [*parts, "userxattr"])


def main() -> None:
    """Read the plan: C{lock}, C{log}, C{init} (paths), C{lease} (path or L{None}), C{log_limit}, C{options} of
    bubblewrap, the C{command} it runs, and C{overlay} (L{None}, or the folders C{lower}, C{upper}, C{work} and
    C{merged}). Without a whole line the daemon has died."""
    os.setsid()
    os.umask(0o077)
    line = sys.stdin.buffer.readline(PLAN_LIMIT)
    if line.endswith(b"\n"):
        Supervisor(json.loads(line)).run()


if __name__ == "__main__":
    main()
