# -*- test-case-name: tests.unit.test_hkd_capacity -*-
"""What this machine has for VMs."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from qvd.model.records import Capacity

FOR_VMS = 0.9
"""Part of the memory that VMs may reserve; the rest is the node's own."""
PRESSURE = Path("/proc/pressure")
"""Of the kernel, where it has it (C{CONFIG_PSI}) and it is not switched off."""
AVERAGE = re.compile(r"^(some|full) avg10=(\d+\.\d+) ", re.MULTILINE)


def measure(pressure: Path = PRESSURE) -> Capacity:
    """What this machine has for VMs. Processors count as idle by what they did since the last call."""
    memory, cores = psutil.virtual_memory(), float(psutil.cpu_count() or 1)
    return Capacity(
        memory=int(memory.total * FOR_VMS),
        cpus=cores,
        available=memory.available,
        idle=cores * (1 - psutil.cpu_percent() / 100),
        # Of a whole machine, the kernel counts no time in which all work waits for a processor: something runs then.
        cpu_pressure=read_pressure(pressure / "cpu", "some"),
        memory_pressure=read_pressure(pressure / "memory", "full"),
    )


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
