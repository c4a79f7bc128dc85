# -*- test-case-name: tests.unit.test_kvm_state -*-
"""
How virtual machines are ended by the watchdog (L{qvd.hkd.watchdog_launch}), which reads this file without the rest of
us.

Only the standard library. What is read here, L{qvd.hkd.hypervisor.kvm.state} writes: a watchdog is older than the
daemon after an upgrade, so these names must stay.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any


def signals(run: str, boot: str) -> dict[int, list[tuple[int, int, int]]]:
    """For each VM of this boot that may have a process: (pid, start time, signal)."""
    folder = os.path.join(run, "vms")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    found = {int(name): of(os.path.join(folder, name), boot) for name in names if name.isascii() and name.isdecimal()}
    return {vm: each for vm, each in found.items() if each}


def of(folder: str, boot: str) -> list[tuple[int, int, int]]:
    try:
        with open(os.path.join(folder, "state.json"), "rb") as file:
            state = json.load(file)
        if state["boot"] != boot:
            return []
        noted = state["qemu"]
        process = (int(noted["pid"]), int(noted["started"])) if noted else starting(state)
        return [(*process, int(signal.SIGKILL))] if process else []
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []  # nothing that was written down by us, or nothing that lives


def starting(state: dict[str, Any]) -> tuple[int, int] | None:
    """The process of a VM that the daemon has ordered, and not yet seen."""
    with open(state["pid_file"], "rb") as file:
        pid = int(file.read())
    with open(f"/proc/{pid}/stat", "rb") as file:
        started = int(file.read().rpartition(b")")[2].split()[19])
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return (pid, started) if state["uuid"].encode() in file.read().split(b"\0") else None
