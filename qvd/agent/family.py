# -*- test-case-name: tests.unit.test_agent_family -*-
"""The processes that belong to an X session: those of its process session, and all their descendants."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import frozen


@frozen
class Process:
    """A line of the process table.

    @ivar dead: only its parent has not noticed yet.
    @ivar started: tells it from a later one of the same number.
    """

    pid: int
    dead: bool
    parent: int
    session: int
    started: int


def parse_stat(text: bytes) -> Process:
    """C{/proc/PID/stat}; the program's name, in parentheses, may hold anything."""
    pid = int(text.split(b" ", 1)[0])
    rest = text.rpartition(b")")[2].split()
    return Process(pid, dead=rest[0] in (b"Z", b"X"), parent=int(rest[1]), session=int(rest[3]), started=int(rest[19]))


def process_table(proc: Path = Path("/proc")) -> dict[int, Process]:
    """All processes that can be seen."""

    def read() -> Iterator[Process]:
        for folder in proc.iterdir():
            if folder.name.isdecimal():
                try:
                    yield parse_stat((folder / "stat").read_bytes())
                except (OSError, IndexError, ValueError):
                    continue

    return {process.pid: process for process in read()}


def family(table: Mapping[int, Process], leader: int) -> list[Process]:
    """The members of C{leader}'s process session, and their descendants."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found = {process.pid: process for process in table.values() if process.session == leader or process.pid == leader}
    waiting = list(found.values())
    while waiting:
        for child in children.get(waiting.pop().pid, []):
            if child.pid not in found:
                found[child.pid] = child
                waiting.append(child)
    return list(found.values())


def still_there(processes: Iterable[Process]) -> list[Process]:
    """Those that are still what they were."""
    table = process_table()
    now = ((process, table.get(process.pid)) for process in processes)
    return [old for old, new in now if new is not None and new.started == old.started and not new.dead]


def signal_all(processes: Iterable[Process], number: signal.Signals) -> list[Process]:
    """Send a signal to those that are still there; return them."""
    sent = []
    for process in still_there(processes):
        try:
            if process.pid not in (1, os.getpid()):
                os.kill(process.pid, number)
                sent.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return sent
