# -*- test-case-name: tests.unit.test_images_needs -*-
"""What QVD wants to find in an image, and what must not be there: rules over its files."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from qvd.images.files import Files, names_in, resolve
from qvd.images.recipe import AGENT_UNIT, KVM

UNIT_FOLDERS = ("etc/systemd/system", "lib/systemd/system")
WANTED_BY = ("multi-user.target.wants", "graphical.target.wants", "default.target.wants", "sysinit.target.wants")


@frozen
class Finding:
    """Something that is wrong with an image.

    @ivar what: a sentence's first half.
    @ivar remedy: what to do.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


@frozen
class Program:
    """One that must be there, at one of several places."""

    name: str
    places: Sequence[str]
    package: str

    def finding(self, files: Files) -> Finding | None:
        if any((found := resolve(files, place)) and found[1].is_program for place in self.places):
            return None
        return Finding(f"{self.name} is missing (/{self.places[0]})", f"install the package {self.package}")


PROGRAMS = (
    Program("the init", ("sbin/init",), "systemd-sysv"),
    Program("the agent", ("usr/bin/qvd-vma",), "qvd-vma"),
    Program("nxagent", ("usr/bin/nxagent",), "nxagent"),
    Program("the session program", ("etc/X11/Xsession",), "x11-common"),
    Program(
        "the desktop",
        ("etc/alternatives/x-session-manager", "etc/alternatives/x-window-manager"),
        "of a desktop, such as icewm",
    ),
    Program("xauth", ("usr/bin/xauth",), "xauth"),
    Program("useradd", ("usr/sbin/useradd",), "passwd"),
    Program("groupadd", ("usr/sbin/groupadd",), "passwd"),
    Program("the users' shell", ("bin/bash",), "bash"),
    Program("poweroff", ("sbin/poweroff",), "systemd-sysv"),
    Program("sound", ("usr/bin/pulseaudio", "usr/bin/pipewire-pulse"), "pulseaudio"),
    Program("printing", ("usr/sbin/cupsd",), "cups-daemon"),
    Program("the command lp", ("usr/bin/lp",), "cups-client"),
)


def enabled_agent(files: Files) -> Finding | None:
    if is_enabled(files, AGENT_UNIT):
        return None
    return Finding(f"the agent does not start with the system ({AGENT_UNIT})", f"systemctl enable {AGENT_UNIT}")


def is_enabled(files: Files, unit: str) -> bool:
    """A link to it in the folder of a target leads to a unit that is there."""
    places = (f"{folder}/{target}/{unit}" for folder in UNIT_FOLDERS for target in WANTED_BY)
    return any(resolve(files, place) for place in places)


def fonts(files: Files) -> Finding | None:
    if names_in(files, "usr/share/fonts"):
        return None
    return Finding("there are no fonts (/usr/share/fonts)", "install the packages xfonts-base and fonts-dejavu-core")


def own_identity(files: Files) -> Finding | None:
    found = resolve(files, "etc/machine-id")
    if found is None or not found[1].size:
        return None
    return Finding("all its machines would have one identity (/etc/machine-id)", "make the file empty")


def own_keys(files: Files) -> Finding | None:
    keys = fnmatch.filter(names_in(files, "etc/ssh"), "ssh_host_*_key")
    if not keys:
        return None
    return Finding(
        f"all its machines would share a secret key (/etc/ssh/{min(keys)})", "remove it; ssh makes a new one"
    )


def kernel(files: Files) -> Finding | None:
    names = names_in(files, "boot")
    if fnmatch.filter(names, "vmlinu[zx]*") and fnmatch.filter(names, "init*"):
        return None
    return Finding("it has no kernel, or no initial file system (/boot)", "install the package linux-image-cloud-amd64")


def network(files: Files) -> Finding | None:
    programs = ("usr/sbin/NetworkManager", "sbin/dhclient", "sbin/dhcpcd", "sbin/udhcpc")
    if is_enabled(files, "systemd-networkd.service") or any(resolve(files, place) for place in programs):
        return None
    return Finding(
        "nothing in it asks for an address (DHCP)", "systemctl enable systemd-networkd, with a .network file"
    )


Rule = Callable[[Files], Finding | None]
RULES: Sequence[Rule] = (
    *(program.finding for program in PROGRAMS),
    enabled_agent,
    fonts,
    own_identity,
    own_keys,
)
MACHINE_RULES: Sequence[Rule] = (kernel, network)


def findings(files: Files, kind: str) -> Iterator[Finding]:
    """All that is wrong.

    @param kind: C{lxc} or C{kvm}.
    """
    for rule in (*RULES, *(MACHINE_RULES if kind == KVM else ())):
        found = rule(files)
        if found is not None:
            yield found
