"""
Looks from outside at which node runs which VM, by nothing but the kernel: C{python -m tests.soak.observer WORD}.

A guest is a process that is number 1 of a pid namespace of its own and has a node's C{guest.json} and a home mounted.
When it began the kernel says (to 10 ms), when it ended a pidfd (at once), so an overlap is found also where it falls
between two samples. It runs as a process of its own, and answers each line on its input with what it has seen so far.

@param WORD: part of the paths of all run folders that are meant.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from attrs import asdict, define

PERIOD = 0.015
"""Seconds between two samples."""
TICK = 0.01
SETTLING = 5.0
"""Seconds after which a process has mounted all it will."""
GUEST = "/files/guest.json"


@define
class Sighting:
    """One guest. Times are the machine's uptime.

    @ivar run: folder of the node's VM.
    @ivar home: what is mounted as the user's home.
    @ivar alive: last time at which it was certainly there.
    @ivar ended: first time at which it was certainly not.
    """

    pid: int
    run: str
    home: str
    began: float
    alive: float
    ended: float | None = None

    @property
    def node(self) -> str:
        return self.run.rpartition("/vms/")[0]


def violations(sightings: Iterable[Sighting]) -> list[tuple[Sighting, Sighting]]:
    """Pairs that had one home at one time. Between two nodes not even the moment counts that an end was not noticed
    yet: the margin that they keep is longer."""
    by_home: dict[str, list[Sighting]] = {}
    for each in sightings:
        by_home.setdefault(each.home, []).append(each)
    found = []
    for same in by_home.values():
        same.sort(key=lambda each: each.began)
        for index, later in enumerate(same):
            for earlier in same[:index]:
                until = earlier.alive if earlier.node == later.node else (earlier.ended or earlier.alive)
                if later.began + TICK < until:
                    found.append((earlier, later))
    return found


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def is_first(pid: int) -> bool:
    """Of a pid namespace below ours."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            numbers = line.split()[1:]
            return len(numbers) > 1 and numbers[-1] == "1"
    return False


def mounted(pid: int, word: str) -> tuple[str, str] | None:
    """The run folder and the home of a guest; L{None} while it is none (yet)."""
    run = home = ""
    for line in read(f"/proc/{pid}/mountinfo").splitlines():
        source, target = line.split()[3:5]
        if target == "/.qvd/guest.json":
            run = source.removesuffix(GUEST)
        elif target.startswith("/home/"):
            home = source
    return (run, home) if run and home and word in run else None


def began(pid: int) -> float:
    return int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


class Observer:
    """Takes samples."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._known: set[int] = set()
        self._candidates: dict[int, float] = {}
        self._live: dict[int, Sighting] = {}
        self._poll = select.poll()
        self.sightings: list[Sighting] = []

    def sample(self) -> None:
        now = uptime()
        for sighting in self._live.values():
            sighting.alive = now
        pids = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
        for pid in pids - self._known:
            with contextlib.suppress(OSError):
                if is_first(pid):
                    self._candidates[pid] = now
        self._known = pids
        for pid, since in list(self._candidates.items()):
            try:
                found = mounted(pid, self._word)
                if found is not None:
                    self._see(pid, *found)
                elif now - since < SETTLING:
                    continue
            except OSError:
                pass
            del self._candidates[pid]

    def _see(self, pid: int, run: str, home: str) -> None:
        start = began(pid)
        fd = os.pidfd_open(pid)
        sighting = Sighting(pid, run, home, start, uptime())
        self.sightings.append(sighting)
        self._live[fd] = sighting
        self._poll.register(fd, select.POLLIN)

    def rest(self, seconds: float) -> bool:
        """Until the next sample, or the end of a guest.

        @return: there is something to read from fd 0.
        """
        asked = False
        for fd, _ in self._poll.poll(max(seconds, 0.0) * 1000):
            if fd == 0:
                asked = True
                continue
            sighting = self._live.pop(fd)
            sighting.ended = uptime()
            self._known.discard(sighting.pid)
            self._poll.unregister(fd)
            os.close(fd)
        return asked

    def run(self) -> None:
        """Until fd 0 ends."""
        self._poll.register(0, select.POLLIN)
        while True:
            following = uptime() + PERIOD
            self.sample()
            while (left := following - uptime()) > 0:
                if self.rest(left):
                    if not os.read(0, 4096):
                        return
                    os.write(1, json.dumps([asdict(each) for each in self.sightings]).encode() + b"\n")


class Watch:
    """An observer in a process of its own."""

    def __init__(self, word: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.observer", word], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.sightings()

    def sightings(self) -> list[Sighting]:
        """All so far."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return [Sighting(**each) for each in found]

    def live(self) -> list[Sighting]:
        """Those that are there now."""
        return [each for each in self.sightings() if each.ended is None]

    def violations(self) -> list[tuple[Sighting, Sighting]]:
        return violations(self.sightings())

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


if __name__ == "__main__":
    Observer(sys.argv[1]).run()
