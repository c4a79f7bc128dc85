"""
A private world: this machine's files below a layer in memory, and namespaces of its own for mounts, network, processes,
and control groups. Nothing done in it can touch the machine, and it is gone with its last process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from attrs import frozen

PROJECT = Path(__file__).resolve().parents[2]
UNSHARE = "unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --propagation private".split()
GROUPS = Path("/sys/fs/cgroup")
PREFIX = "qvd-world-"


def obstacle() -> str | None:
    """Why there can be no such world here; L{None}: there can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and mounts"
    words = [*UNSHARE, "--net", "true"]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        return "this machine allows no new namespaces"
    return None


@frozen
class World:
    """One that runs.

    @ivar groups: its control group in each hierarchy.
    """

    name: str
    process: subprocess.Popen[bytes]
    groups: Sequence[Path]

    def kill(self) -> None:
        """End all that runs there."""
        self.process.kill()
        self.process.wait()
        # Its child, process 1 of the world, is killed by the kernel then, and takes all others along.
        while any((group / "cgroup.procs").read_text() for group in self.groups):
            time.sleep(0.02)

    def left(self) -> list[str]:
        """Control groups that were made in it and not removed, and processes that are still in them."""
        made = [str(below) for top in self.groups for below in top.rglob("*/")]
        alive = [f"{top}: {pid}" for top in self.groups for pid in (top / "cgroup.procs").read_text().split()]
        return sorted(made + alive)


def outside() -> dict[str, set[str]]:
    """What a world could leave on the machine: mounts, network interfaces and namespaces, filters, control groups."""
    ruleset = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=False).stdout
    groups = (str(path) for path in GROUPS.rglob("*/"))
    return {
        "mounts": {line.split(maxsplit=2)[2] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "interfaces": {name for _, name in socket.if_nameindex()},
        "namespaces": {path.name for path in Path("/run/netns").glob("*")},
        "filters": set(ruleset.splitlines()),
        # Those of worlds are looked at one by one: several may be there at a time.
        "groups": {path for path in groups if f"/{PREFIX}" not in path},
    }


@contextlib.contextmanager
def private_world(
    words: Sequence[str],
    pass_fds: Sequence[int] = (),
    output: IO[str] | None = None,
    network: bool = False,
) -> Iterator[World]:
    """Run a program there. What still runs at the end of the block is killed.

    @param output: where it writes; L{None}: where we do.
    @param network: it has the machine's own network, to fetch packages. Nothing that listens or sets up a network
        belongs there.
    """
    name = f"{PREFIX}{secrets.token_hex(4)}"
    with control_groups(name) as groups:

        def enter() -> None:
            for group in groups:
                (group / "cgroup.procs").write_text("0")

        environment = {**os.environ, "WORLD_FOLDER": str(PROJECT), "WORLD_PYTHON": sys.executable}
        process = subprocess.Popen(
            [*UNSHARE, *([] if network else ["--net"]), "sh", str(PROJECT / "tests/rig/inside.sh"), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=pass_fds,
            preexec_fn=enter,
        )
        world = World(name, process, groups)
        try:
            yield world
        finally:
            world.kill()


@contextlib.contextmanager
def control_groups(name: str) -> Iterator[Sequence[Path]]:
    """A group of its own in each hierarchy."""
    tops = [GROUPS] if (GROUPS / "cgroup.procs").exists() else [*GROUPS.glob("*/")]
    groups = [top / name for top in tops if (top / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
        for knob in ("cpuset.cpus", "cpuset.mems"):
            if (group.parent / knob).exists():
                # A new group of version 1 begins without any, and takes no process in.
                with contextlib.suppress(OSError):
                    (group / knob).write_text((group.parent / knob).read_text())
    try:
        yield groups
    finally:
        for group in groups:
            for below in sorted(group.rglob("*/"), reverse=True):
                below.rmdir()
            group.rmdir()
