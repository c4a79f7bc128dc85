# -*- test-case-name: tests.unit.test_lxc_groups -*-
"""Control groups of containers: what this machine's can do, and removing those that a dead liblxc has left. Blocks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from qvd.hkd.hypervisor.lxc.config import Controllers

KINDS = ("lxc.monitor", "lxc.payload", "lxc.pivot")
MOUNTINFO = re.compile(r"\S+ \S+ \S+ \S+ (?P<place>\S+) .*- (?P<kind>cgroup2?) \S+ (?P<options>\S+)")


def hierarchies(mountinfo: str) -> Iterator[tuple[Path, frozenset[str] | None]]:
    """Where control groups are mounted, each with its controllers; L{None}: version 2."""
    for line in mountinfo.splitlines():
        match = MOUNTINFO.fullmatch(line)
        if match is not None:
            legacy = frozenset(match["options"].split(","))
            yield Path(match["place"]), None if match["kind"] == "cgroup2" else legacy


def read_hierarchies() -> list[tuple[Path, frozenset[str] | None]]:
    return list(hierarchies(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")))


def find_controllers() -> Controllers:
    """What this machine has now."""
    legacy: set[str] = set()
    unified: set[str] = set()
    swap = False
    for place, controllers in read_hierarchies():
        if controllers is None:
            unified.update((place / "cgroup.controllers").read_text("ascii").split())
            swap = swap or any(place.glob("*/memory.swap.max"))
        else:
            legacy |= controllers
            swap = swap or (place / "memory.memsw.limit_in_bytes").exists()
    return Controllers(frozenset(legacy), frozenset(unified), swap)


def bases(membership: str) -> set[str]:
    """Groups of a process (C{/proc/PID/cgroup}) below which liblxc may have made others."""
    paths = {line.split(":", 2)[2].removesuffix("/init.scope") for line in membership.splitlines()}
    return {path.lstrip("/") for path in paths if ".." not in path}


def groups_of(name: str) -> list[Path]:
    """The groups of a container that there are."""
    below = {""}
    for process in ("1", "self"):
        with contextlib.suppress(OSError):
            below |= bases(Path(f"/proc/{process}/cgroup").read_text("utf-8", "surrogateescape"))
    places = {place / base for place, _ in read_hierarchies() for base in below}
    return [group for place in sorted(places) for kind in KINDS if (group := place / f"{kind}.{name}").is_dir()]


def remove_groups(name: str) -> None:
    """@raise OSError: a process in them has not quite ended."""
    for group in groups_of(name):
        for below in sorted(group.rglob("*/"), reverse=True):
            remove_group(below)
        remove_group(group)


def remove_group(group: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(group)
