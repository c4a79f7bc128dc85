# -*- test-case-name: tests.unit.test_lxc_config -*-
"""A container as liblxc's configuration file: from values to text, and what an administrator may add."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

from qvd.hkd.hypervisor.vmspec import require
from qvd.model.records import Nic

ROOT = "/run/lxc/root"
"""Where a container's root file system is mounted, for its liblxc alone: on the node itself there is no such folder."""
IDS = 65536
"""User and group ids of a container."""
PERIOD = 100_000
"""Microseconds in which a container may use its share of the processors."""
INIT = "/.qvd/init"
"""First program in a container. No such file may exist on the node: a container that lacks its root file system would
run the node's own."""
DROPPED = "mac_admin mac_override sys_time sys_module sys_rawio"
"""Capabilities that not even a container's root has. Without a user namespace they would reach the node itself."""
DEVICES = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2", "c 136:*")
"""null, zero, full, random, urandom, tty, console, ptmx, and pseudo-terminals."""
FUSE = "c 10:229"
SECCOMP = "/usr/share/lxc/config/common.seccomp"
CONSOLE_SIZE = "1MB"
OWNED = (
    "lxc.rootfs",
    "lxc.idmap",
    "lxc.net",
    "lxc.init",
    "lxc.uts",
    "lxc.console",
    "lxc.hook.start-host",
    "lxc.hook.version",
    "lxc.namespace",
    "lxc.cgroup.dir",
    "lxc.cgroup.relative",
    "lxc.include",
    "lxc.mount.fstab",
    "lxc.ephemeral",
    "lxc.execute",
)
"""Keys that belong to the driver, each with all below it."""
OWNED_PLACES = (".qvd", "home")


@frozen
class Controllers:
    """What this machine's control groups can limit.

    @ivar legacy: controllers of version 1.
    @ivar unified: those of version 2.
    @ivar swap: swap is accounted for.
    """

    legacy: frozenset[str]
    unified: frozenset[str]
    swap: bool = False


@frozen
class Limits:
    """What a container may use.

    @ivar memory: bytes, with what is swapped out.
    @ivar cpus: processors; L{None}: all of them.
    @ivar pids: processes and threads.
    """

    memory: int
    cpus: float | None
    pids: int


@frozen
class Cable:
    """A container's network interface, and its other end on the node."""

    nic: Nic
    bridge: str
    device: str


@frozen
class Container:
    """One start of one container.

    @ivar name: liblxc's name for it.
    @ivar console: file for what it writes to its console.
    @ivar note: command that notes its process 1, before that runs.
    @ivar uid_base: user id of its root on the node; L{None}: there is no user namespace.
    @ivar apparmor: name of a profile; L{None}: AppArmor is not in use here.
    @ivar seccomp: file with the system calls that are refused.
    @ivar extra: what the administrator adds: the result of L{checked_extra}.
    """

    name: str
    hostname: str
    console: str
    note: str
    cable: Cable
    limits: Limits
    controllers: Controllers
    uid_base: int | None
    fuse: bool = False
    apparmor: str | None = None
    seccomp: str | None = None
    extra: tuple[str, ...] = ()


def config_text(container: Container) -> str:
    """The whole file."""
    return "".join(f"{line}\n" for line in lines(container))


def lines(container: Container) -> Iterator[str]:
    """The file's lines. What the administrator adds comes last, and so prevails."""
    yield f"lxc.rootfs.path = dir:{ROOT}"
    yield f"lxc.init.cmd = {INIT}"
    yield f"lxc.uts.name = {container.hostname}"
    yield "lxc.hook.version = 1"
    yield f"lxc.hook.start-host = {container.note}"
    # One per container: a shared one could not be removed by anybody.
    yield f"lxc.cgroup.dir.monitor.pivot = lxc.pivot.{container.name}"
    yield from id_lines(container.uid_base)
    yield from mount_lines(container)
    yield from net_lines(container.cable)
    yield from security_lines(container)
    yield from limit_lines(container.limits, container.controllers)
    yield from device_lines(container.controllers, (*DEVICES, FUSE) if container.fuse else DEVICES)
    yield from container.extra


def id_lines(base: int | None) -> Iterator[str]:
    if base is not None:
        for kind in "ug":
            yield f"lxc.idmap = {kind} 0 {base} {IDS}"


def mount_lines(container: Container) -> Iterator[str]:
    yield "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed"
    yield "lxc.autodev = 1"
    yield "lxc.tty.max = 0"
    yield "lxc.pty.max = 1024"
    yield f"lxc.console.logfile = {container.console}"
    yield f"lxc.console.size = {CONSOLE_SIZE}"
    yield "lxc.console.rotate = 1"
    if container.fuse:
        yield "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file 0 0"


def net_lines(cable: Cable) -> Iterator[str]:
    values = {
        "type": "veth",
        "name": "eth0",
        "flags": "up",
        "link": cable.bridge,
        "veth.pair": cable.device,
        "hwaddr": cable.nic.mac,
        "ipv4.address": f"{cable.nic.address}/{cable.nic.prefix}",
    }
    for key, value in values.items():
        yield f"lxc.net.0.{key} = {value}"
    if cable.nic.gateway is not None:
        yield f"lxc.net.0.ipv4.gateway = {cable.nic.gateway}"


def security_lines(container: Container) -> Iterator[str]:
    yield f"lxc.cap.drop = {DROPPED}"
    if container.seccomp is not None:
        yield f"lxc.seccomp.profile = {container.seccomp}"
    if container.apparmor is not None:
        yield f"lxc.apparmor.profile = {container.apparmor}"
        if container.apparmor == "generated" and container.uid_base is not None:
            # systemd's services have mounts of their own; the user namespace is what confines them.
            yield "lxc.apparmor.allow_nesting = 1"


def limit_lines(limits: Limits, controllers: Controllers) -> Iterator[str]:
    """Only what this machine has: liblxc starts nothing where it cannot set a limit."""
    legacy = {
        "memory": [("memory.limit_in_bytes", limits.memory)],
        "pids": [("pids.max", limits.pids)],
    }
    unified = {
        "memory": [("memory.max", limits.memory)],
        "pids": [("pids.max", limits.pids)],
    }
    if controllers.swap:
        legacy["memory"].append(("memory.memsw.limit_in_bytes", limits.memory))
        unified["memory"].append(("memory.swap.max", 0))
    for name, values in legacy.items():
        if name in controllers.legacy:
            yield from (f"lxc.cgroup.{key} = {value}" for key, value in values)
    for name, values in unified.items():
        if name in controllers.unified:
            yield from (f"lxc.cgroup2.{key} = {value}" for key, value in values)
    if limits.cpus is not None:
        yield from cpu_lines(max(round(limits.cpus * PERIOD), 1000), controllers)


def cpu_lines(quota: int, controllers: Controllers) -> Iterator[str]:
    if "cpu" in controllers.legacy:
        yield f"lxc.cgroup.cpu.cfs_period_us = {PERIOD}"
        yield f"lxc.cgroup.cpu.cfs_quota_us = {quota}"
    if "cpu" in controllers.unified:
        yield f"lxc.cgroup2.cpu.max = {quota} {PERIOD}"


def device_lines(controllers: Controllers, allowed: tuple[str, ...]) -> Iterator[str]:
    """Version 2 has no controller for devices but programs in the kernel; where there are both, version 1 does it."""
    if "devices" in controllers.legacy:
        key = "lxc.cgroup.devices"
    elif controllers.unified and not controllers.legacy:
        key = "lxc.cgroup2.devices"
    else:
        return
    yield f"{key}.deny = a"
    for device in allowed:
        yield f"{key}.allow = {device} rwm"


def checked_extra(text: str, source: str) -> tuple[str, ...]:
    """The lines of an administrator's file, without comments.

    @raise PermanentError: a line is none of liblxc's, or is about what the driver itself sees to.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            check_line(stripped, f"{source}, line {number}")
            found.append(stripped)
    return tuple(found)


def check_line(line: str, place: str) -> None:
    key, equals, value = (part.strip() for part in line.partition("="))
    require(bool(equals) and re.fullmatch(r"lxc\.[a-z0-9._-]+", key) is not None, f"{place}: expected lxc.KEY = VALUE")
    for owned in OWNED:
        require(key != owned and not key.startswith(f"{owned}."), f"{place}: {key} belongs to QVD and cannot be set")
    if key == "lxc.mount.entry":
        words = value.split()
        require(len(words) >= 3, f"{place}: a mount needs what, where and its type")
        check_target(words[1], place)


def check_target(target: str, place: str) -> None:
    parts = [part for part in target.split("/") if part not in ("", ".")]
    require(".." not in parts, f"{place}: the mount's place {target} may not hold '..'")
    require(bool(parts) and parts[0] not in OWNED_PLACES, f"{place}: what is mounted on /{target.strip('/')} is QVD's")
