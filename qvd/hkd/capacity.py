# -*- test-case-name: tests.unit.test_hkd_capacity -*-
"""What this machine has for VMs."""

from __future__ import annotations

import psutil

from qvd.model.records import Capacity

FOR_VMS = 0.9
"""Part of the memory that VMs may reserve; the rest is the node's own."""


def measure() -> Capacity:
    """What this machine has for VMs. Processors count as idle by what they did since the last call."""
    memory, cores = psutil.virtual_memory(), float(psutil.cpu_count() or 1)
    return Capacity(
        memory=int(memory.total * FOR_VMS),
        cpus=cores,
        available=memory.available,
        idle=cores * (1 - psutil.cpu_percent() / 100),
    )
