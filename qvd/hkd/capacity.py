# -*- test-case-name: tests.unit.test_hkd_capacity -*-
"""What this machine has for VMs."""

from __future__ import annotations

import psutil

from qvd.model.records import Capacity

FOR_VMS = 0.9
"""Part of the memory that VMs may reserve; the rest is the node's own."""


def measure() -> Capacity:
    """Total memory for VMs and cores of this machine."""
    return Capacity(memory=int(psutil.virtual_memory().total * FOR_VMS), cpus=float(psutil.cpu_count() or 1))
