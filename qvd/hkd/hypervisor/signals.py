# -*- test-case-name: tests.unit.test_hypervisor_signals -*-
"""
How VMs that run under a supervisor are ended by the watchdog (L{qvd.hkd.watchdog_launch}), which reads this file
without the rest of us.

Only the standard library. What is read here, L{qvd.hkd.hypervisor.state} writes: a watchdog is older than the
daemon after an upgrade, so these names must stay.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

ASKS = 4
"""Before a VM has an init, its supervisor is asked so often to end what it is setting up, and killed then: it alone
knows these processes."""


def signals(run: str, boot: str) -> dict[int, list[tuple[int, int, int]]]:
    """For each VM of this boot that may have processes: (pid, start time, signal), the first to be sent first."""
    folder = os.path.join(run, "vms")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    found = {int(name): of(os.path.join(folder, name), boot) for name in names if name.isascii() and name.isdecimal()}
    return {vm: each for vm, each in found.items() if each}


def of(folder: str, boot: str) -> list[tuple[int, int, int]]:
    try:
        state = read(os.path.join(folder, "state.json"))
        if state is None or state["boot"] != boot:
            return []
        supervisor, init = state["supervisor"], read(os.path.join(folder, "init.json"))
        if init is not None:
            return [entry(init, signal.SIGKILL), *([entry(supervisor, signal.SIGKILL)] if supervisor else [])]
        if supervisor is None:
            return []  # it has no plan yet, and without one it starts nothing
        return [entry(supervisor, signal.SIGTERM)] * ASKS + [entry(supervisor, signal.SIGKILL)]
    except (ValueError, KeyError, TypeError):
        return []  # nothing that was written down by us


def entry(process: dict[str, Any], number: signal.Signals) -> tuple[int, int, int]:
    return int(process["pid"]), int(process["started"]), int(number)


def read(path: str) -> Any:
    """L{None}: there is no such file."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except FileNotFoundError:
        return None
