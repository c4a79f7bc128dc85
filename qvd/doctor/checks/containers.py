# -*- test-case-name: tests.doctor.test_broken -*-
"""What the driver C{lxc} needs: liblxc, control groups, user ids, its configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from qvd.doctor import programs
from qvd.doctor.findings import Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import Place
from qvd.hkd.hypervisor.lxc.config import IDS, SECCOMP, checked_extra
from qvd.hkd.hypervisor.lxc.files import SUBORDINATE, confined, grants
from qvd.hkd.hypervisor.lxc.groups import find_controllers
from qvd.model.errors import QVDError

OLDEST = (4, 0)
NEEDED = ("memory", "cpu", "pids")
MOST_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
Look = Callable[[Place], Iterator[Finding]]


def for_containers(what: str) -> Callable[[Look], Look]:
    """Of other drivers: not applicable."""

    def wrap(look: Look) -> Look:
        def wrapped(place: Place) -> Iterator[Finding]:
            if place.driver == "lxc":
                yield from look(place)
            else:
                yield not_applicable(what, f"the driver is {place.driver}")

        return wrapped

    return wrap


@for_containers("liblxc")
def look_at_liblxc(place: Place) -> Iterator[Finding]:
    """It is there, and new enough."""
    said = programs.run(["lxc-start", "--version"])
    if not said.good:
        yield failure("lxc-start", f"It cannot be run ({said.reason}): no VM starts", "apt-get install lxc")
        return
    version = said.out.strip()
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        yield failure("lxc-start", f"liblxc {version} is too old", "upgrade it to 4.0 or newer")
    else:
        yield ok("lxc-start", f"liblxc {version}")
    if os.geteuid() != 0:
        yield note("the driver lxc", "It works only as root, and the doctor does not run as root", "run it as root")


@for_containers("the configuration of containers")
def look_at_configuration(place: Place) -> Iterator[Finding]:
    """What liblxc's packages bring, and what an administrator has added."""
    if os.path.exists(SECCOMP):
        yield ok(SECCOMP, "the filter of system calls is there")
    else:
        yield warning(
            SECCOMP,
            "The filter of system calls is missing: containers may call everything that the kernel has",
            "apt-get install --reinstall lxc (package liblxc-common)",
        )
    extra = place.settings.text("vm.lxc.config_extra")
    if extra:
        path = place.file("vm.lxc.config_extra")
        try:
            checked_extra(path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError, QVDError) as error:
            said = error.text if isinstance(error, QVDError) else str(error)
            yield failure(f"{path} (vm.lxc.config_extra)", f"{said}: no VM starts", "correct the file, or take it away")
        else:
            yield ok(f"{path} (vm.lxc.config_extra)", "its lines may stand there")
    if confined() and programs.find("apparmor_parser") is None:
        yield failure(
            "AppArmor",
            "The kernel uses it, and apparmor_parser is missing: no container starts",
            "apt-get install apparmor",
        )


@for_containers("user ids of containers")
def look_at_ids(place: Place) -> Iterator[Finding]:
    """Root may give them away."""
    if not place.settings.flag("vm.lxc.userns"):
        yield warning(
            "vm.lxc.userns",
            "Containers have no user namespace: whoever becomes root in one is root of this node, with fewer rights",
            "set vm.lxc.userns to true, unless an image cannot do with it",
        )
        return
    base = place.settings.number("vm.lxc.uid_base")
    for name in SUBORDINATE:
        try:
            text = Path(name).read_text("utf-8", "replace")
        except OSError:
            text = ""
        if grants(text, base):
            yield ok(name, f"containers may have the ids from {base} on")
        else:
            yield failure(
                name,
                f"It gives root no {IDS} ids from {base} on: no VM starts",
                f"add the line root:{base}:{IDS} to it",
            )
    try:
        most = int(MOST_NAMESPACES.read_text("ascii"))
    except (OSError, ValueError):
        return
    if most < 1:
        yield failure(
            str(MOST_NAMESPACES),
            "The kernel permits no user namespaces: no VM starts",
            "sysctl user.max_user_namespaces=10000",
        )


@for_containers("control groups")
def look_at_groups(place: Place) -> Iterator[Finding]:
    """They can limit what a container takes."""
    try:
        found = find_controllers()
    except OSError as error:
        yield failure(
            "control groups", f"They cannot be read: {error}", "mount them: mount -t cgroup2 none /sys/fs/cgroup"
        )
        return
    there = found.legacy | found.unified
    version = " and ".join(f"version {number}" for number, part in ((1, found.legacy), (2, found.unified)) if part)
    if not there:
        yield failure(
            "control groups",
            "None are mounted: no container starts",
            "mount them: mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd, which does",
        )
        return
    lacking = [name for name in NEEDED if name not in there]
    if lacking:
        yield warning(
            f"control groups ({version})",
            f"They cannot limit {', '.join(lacking)}: one VM can take all of this node's",
            f"boot the kernel with cgroup_enable={lacking[0]} (and swapaccount=1), or mount that controller",
        )
    else:
        yield ok(f"control groups ({version})", f"they limit {', '.join(NEEDED)}")
