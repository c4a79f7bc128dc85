# -*- test-case-name: tests.unit.test_hkd_capacity -*-
"""What this machine has for VMs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from qvd.model.records import Capacity

FOR_VMS = 0.9
"""Part of the memory that VMs may reserve; the rest is the node's own."""
PRESSURE = Path("/proc/pressure")
"""Of the kernel, where it has it (C{CONFIG_PSI}) and it is not switched off."""
AVERAGE = re.compile(r"^(some|full) avg10=(\d+\.\d+) ", re.MULTILINE)
ENOUGH = 1.0
"""Core-seconds that have to pass between two looks at the processors: a renewal may come right after another one, and
what went on in between says nothing then."""


class Meter:
    """Measures each time the lease is renewed: small files of C{/proc}.

    Processors count as idle by what they did since the look before, at first by what they did since the boot. Waiting
    for a disk is idle: a VM could use that time.
    @param times: C{psutil.cpu_times}.
    @param pressure: folder of the kernel's files.
    """

    def __init__(self, times: Callable[[], Any] = psutil.cpu_times, pressure: Path = PRESSURE) -> None:
        self._times = times
        self._pressure = pressure
        self._total = 0.0
        self._idle = 0.0
        self._part = 1.0

    def measure(self) -> Capacity:
        """What there is just now."""
        memory, cores = psutil.virtual_memory(), float(psutil.cpu_count() or 1)
        return Capacity(
            memory=int(memory.total * FOR_VMS),
            cpus=cores,
            available=memory.available,
            idle=cores * self._idle_part(),
            # Of a whole machine, the kernel counts no time in which all work waits for a processor.
            cpu_pressure=read_pressure(self._pressure / "cpu", "some"),
            memory_pressure=read_pressure(self._pressure / "memory", "full"),
        )

    def _idle_part(self) -> float:
        """0 to 1."""
        now = self._times()
        # The kernel counts guests' time twice: on its own, and as user or nice time.
        total = sum(now) - getattr(now, "guest", 0.0) - getattr(now, "guest_nice", 0.0)
        idle = now.idle + getattr(now, "iowait", 0.0)
        passed = total - self._total
        if passed >= ENOUGH:
            self._part = min(max((idle - self._idle) / passed, 0.0), 1.0)
            self._total, self._idle = total, idle
        return self._part


def read_pressure(file: Path, share: str) -> float | None:
    """Per cent of the last 10 s in which work waited; L{None} where the kernel does not tell. Reads one line or two out
    of the kernel's memory: nothing that would block.

    @param share: C{some} or C{full}: a part of the work, or all that there was.
    """
    try:
        text = file.read_text("ascii", errors="replace")
    except OSError:
        # Absent, or "Operation not supported" on a kernel that was started with psi=0.
        return None
    averages = dict(AVERAGE.findall(text))
    return min(float(averages[share]), 100.0) if share in averages else None
