# -*- test-case-name: tests.unit.test_hkd_watchdog_launch -*-
"""
The watchdog: a program of its own, run as C{python -I -S watchdog_launch.py RUN SIGNALS PROMISE}.

VMs outlive the daemon, and must not outlive the node's lease: another node may start them then. The daemon's own fence
does not fall while its process is stopped, stuck or gone, so this process, started by the daemon and outliving it,
looks at C{RUN/lease.json} about four times a second and kills the VMs of this node when its deadline has passed. Rows
are left alone; the next daemon writes what became of the VMs.

It knows nothing of drivers. Each has a file (C{SIGNALS}) with one function, C{signals(run, boot)}, that says which
processes a VM is made of and how they are ended: a list, for each VM, of (pid, start time, signal), the mildest first.

Only the standard library, and of that little: it must start at once and need no memory when the node has none left.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

LEASE, LOG = "lease.json", "watchdog.log"
LOCK = 3
"""Descriptor of C{RUN/watchdog.lock}, which the daemon has locked for us: one watchdog at a time."""
PAUSE, KILL_PAUSE = 0.25, 0.05
"""Seconds between two looks; while something is being killed."""
LOG_LIMIT = 1 << 18


class Process(NamedTuple):
    """One process, for as long as the machine is up."""

    pid: int
    started: int


class Promise(NamedTuple):
    """C{lease.json}: until when a daemon may rely on its lease.

    @ivar boot: identity of the machine's uptime.
    @ivar epoch: of the lease; for the log.
    @ivar until: on CLOCK_BOOTTIME.
    @ivar daemon: the process that wrote it.
    @ivar released: it said goodbye, and starts no VM any more.
    """

    boot: str
    epoch: int
    until: float
    daemon: Process
    released: bool = False

    def encode(self) -> str:
        return json.dumps({**self._asdict(), "daemon": self.daemon._asdict()})


def decode(text: str | bytes) -> Promise:
    """@raise ValueError: it is no promise."""
    try:
        table = json.loads(text)
        daemon = Process(int(table["daemon"]["pid"]), int(table["daemon"]["started"]))
        until = float(table["until"])
        return Promise(str(table["boot"]), int(table["epoch"]), until, daemon, bool(table["released"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a promise: {error!r}") from None


class Verdict(Enum):
    """What to do now."""

    WAIT = "wait"
    KILL = "kill"
    END = "end"


def decide(promise: Promise, now: float, daemon_lives: bool, any_left: Callable[[], bool]) -> Verdict:
    """
    @param any_left: whether a VM of this node has processes; asked only where it matters.
    """
    over, leaving = now >= promise.until, promise.released or not daemon_lives
    if not over and not leaving:
        return Verdict.WAIT
    if any_left():
        return Verdict.KILL if over else Verdict.WAIT
    # A daemon that is there, though stopped or stuck, may go on and start one.
    return Verdict.END if leaving else Verdict.WAIT


def newest(known: Promise, text: bytes | None) -> Promise:
    """The promise that holds: what was read last. A file that is gone, broken, or of an earlier boot extends nothing,
    and ends nothing either.

    @param text: what the file has in it; L{None}: it cannot be read.
    """
    try:
        read = known if text is None else decode(text)
    except ValueError:
        return known
    return read if read.boot == known.boot else known


Signals = Callable[[str, str], Mapping[int, Sequence[tuple[int, int, int]]]]
"""What each driver provides; see above."""


class Log:
    """A file and an older one, none longer than a bound. One that cannot be written stops nothing."""

    def __init__(self, path: str, limit: int = LOG_LIMIT) -> None:
        self._path = path
        self._limit = limit

    def say(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode()
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._path, flags, 0o600)
            try:
                os.write(file, line)
                full = os.fstat(file).st_size > self._limit
            finally:
                os.close(file)
            if full:
                os.replace(self._path, self._path + ".1")


class Watchdog:
    """One run folder.

    @param now: CLOCK_BOOTTIME.
    @param lock: descriptor of C{RUN/watchdog.lock}, locked.
    """

    def __init__(
        self, run: str, signals: Signals, promise: Promise, now: Callable[[], float], log: Log, lock: int = LOCK
    ) -> None:
        self._run = run
        self._signals = signals
        self._promise = promise
        self._now = now
        self._log = log
        self._lock = lock
        self._tries: dict[int, int] = {}

    def run(self) -> None:
        """Until the daemon has left and no VM is there."""
        self._log.say(f"watching over the VMs of {self._run}")
        while True:
            verdict = self.look_safely()
            if verdict is Verdict.END and self.let_go():
                break
            select.poll().poll(self._pause(verdict) * 1000)
        self._log.say("the daemon has left and no VM is there: nothing to watch over any more")

    def _pause(self, verdict: Verdict) -> float:
        if verdict is Verdict.KILL:
            return KILL_PAUSE
        left = self._promise.until - self._now()
        return min(PAUSE, left) if left > 0 else PAUSE

    def look_safely(self) -> Verdict:
        """Whatever is wrong now may be right the next time."""
        try:
            return self.look()
        except Exception as error:  # noqa: BLE001  nobody is there to start it again
            self._log.say(f"a look failed: {error!r}")
            return Verdict.WAIT

    def look(self) -> Verdict:
        """Look once, and act on it."""
        self._promise = newest(self._promise, contents(os.path.join(self._run, LEASE)))
        found: dict[int, list[tuple[Process, int]]] = {}

        def any_left() -> bool:
            found.update(self._alive())
            return bool(found)

        promise = self._promise
        verdict = decide(promise, self._now(), identify(promise.daemon.pid) == promise.daemon, any_left)
        if verdict is Verdict.KILL:
            self._kill(found)
        self._forget(found)
        return verdict

    def _alive(self) -> dict[int, list[tuple[Process, int]]]:
        every = self._signals(self._run, self._promise.boot)
        lists = {vm: [(Process(pid, started), number) for pid, started, number in each] for vm, each in every.items()}
        return {vm: each for vm, each in lists.items() if any(identify(process.pid) == process for process, _ in each)}

    def _kill(self, found: Mapping[int, Sequence[tuple[Process, int]]]) -> None:
        """The first time the mildest signal, then one more with each look."""
        if not self._tries:
            late = self._now() - self._promise.until
            self._log.say(
                f"the lease of epoch {self._promise.epoch} was not renewed, and its deadline passed {late:.2f} s ago:"
                f" killing VMs {', '.join(map(str, sorted(found)))}"
            )
        for vm, each in found.items():
            tries = self._tries[vm] = self._tries.get(vm, 0) + 1
            for position, (process, number) in enumerate(each[:tries]):
                if send(process, number) and position == tries - 1:
                    self._log.say(f"VM {vm}: {signal.Signals(number).name} to process {process.pid}")

    def _forget(self, found: Mapping[int, object]) -> None:
        for vm in [vm for vm in self._tries if vm not in found]:
            self._log.say(f"VM {vm}: gone" if self._now() >= self._promise.until else f"VM {vm}: let be again")
            del self._tries[vm]

    def let_go(self) -> bool:
        """Unlock, and only then look for the last time: a daemon that wrote its promise before took us for alive.

        @return: whether to end.
        """
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        if self.look_safely() is Verdict.END:
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True  # the daemon has started another one
        return False


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Changes when the machine boots."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def contents(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(65536)
    except OSError:
        return None


def identify(pid: int) -> Process | None:
    """The live process of that number, if there is one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else Process(pid, int(fields[19]))


def send(process: Process, number: int) -> bool:
    """Signal exactly that process; never another that got its number.

    @return: whether it was there.
    """
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def load_signals(path: str) -> Signals:
    """The driver's function, from its file: there is no import path here."""
    spec = importlib.util.spec_from_file_location("signals", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Signals = module.signals
    return function


def become_indispensable() -> None:
    """Where we may: neither out of memory nor starved by what is to be killed."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def main(run: str, path: str, promise: str) -> None:
    """@param promise: what the file said when we were started."""
    os.setsid()
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    watchdog = Watchdog(run, load_signals(path), decode(promise), uptime, Log(os.path.join(run, LOG)))
    become_indispensable()
    # So far our complaints went to the daemon, which may go now.
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    watchdog.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
