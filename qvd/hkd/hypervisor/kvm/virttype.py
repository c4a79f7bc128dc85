# -*- test-case-name: tests.unit.test_kvm_virttype -*-
"""Whether the processor runs the guests, or QEMU does it for it."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import assert_never

from attrs import frozen

DEVICE = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")
EXTENSIONS = frozenset({"svm", "vmx"})


class Wanted(Enum):
    """Setting C{vm.kvm.virt_type}."""

    AUTO = "auto"
    KVM = "kvm"
    QEMU = "qemu"


@frozen
class Facts:
    """What this machine shows.

    @ivar extensions: the processor says that it can run virtual machines.
    @ivar device: C{/dev/kvm} can be opened.
    """

    extensions: bool
    device: bool


@frozen
class VirtType:
    """What is used (C{type} of a libvirt domain), and why, for the log."""

    name: str
    why: str


def choose(wanted: Wanted, facts: Facts) -> VirtType:
    """C{/dev/kvm} alone proves nothing: there are ones behind which ordinary guests do not boot."""
    match wanted:
        case Wanted.KVM | Wanted.QEMU:
            return VirtType(wanted.value, "the setting vm.kvm.virt_type says so")
        case Wanted.AUTO if not facts.extensions:
            return VirtType("qemu", "the processor shows neither svm nor vmx")
        case Wanted.AUTO if not facts.device:
            return VirtType("qemu", f"{DEVICE} cannot be opened")
        case Wanted.AUTO:
            return VirtType("kvm", f"the processor has it, and {DEVICE} can be opened")
        case _:
            assert_never(wanted)


def has_extensions(cpuinfo: str) -> bool:
    """@param cpuinfo: what C{/proc/cpuinfo} says."""
    flags = (line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags"))
    return any(EXTENSIONS.intersection(line) for line in flags)


def look(device: Path = DEVICE, cpuinfo: Path = CPUINFO) -> Facts:
    """At this machine."""
    return Facts(has_extensions(cpuinfo.read_text("utf-8", "replace")), opens(device))


def opens(device: Path) -> bool:
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(fd)
    return True
