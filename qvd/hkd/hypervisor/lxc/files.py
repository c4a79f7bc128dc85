# -*- test-case-name: tests.unit.test_lxc_files -*-
"""Files of containers on the node: checked before a start, made for it, removed after the end. It all blocks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from qvd.hkd.files.folders import checked_parts, make_home, remove_tree
from qvd.hkd.hypervisor.lxc.config import IDS, SECCOMP, Cable, Container, Limits, checked_extra, config_text
from qvd.hkd.hypervisor.lxc.groups import find_controllers
from qvd.hkd.hypervisor.state import StateFolder, write_private
from qvd.hkd.hypervisor.vmspec import check_login, host_name, require
from qvd.model.errors import PermanentError
from qvd.model.ids import VMId
from qvd.model.records import Guest, Persistence, VMSpec
from qvd.model.rootplan import RootPlan

VMA_PORT, DISPLAY, NX_BASE = 3030, 100, 4000
"""A container has all ports to itself."""
LOG_LIMIT = 1 << 18
SUBORDINATE = ("/etc/subuid", "/etc/subgid")
GRANT = re.compile(r"(?:root|0):([0-9]+):([0-9]+)")
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
LAUNCHER = """#!/bin/sh
echo > /.qvd/started
exec {init}
"""
"""C{/.qvd/init}: says that the container runs, then becomes the image's own process 1."""
NOTE = """set -eu
read -r stat < "/proc/$LXC_PID/stat"
set -- ${{stat##*) }}
printf '{{"pid": %s, "started": %s}}' "$LXC_PID" "${{20}}" > {init}.new
mv {init}.new {init}
"""
"""Run by liblxc when the container's process 1 is there and waits: it is written down before it can do anything."""


def absolute(path: Path) -> Path:
    """The supervisor works in another folder than the daemon."""
    return path.absolute()


@frozen
class LxcLayout:
    """Where the driver finds and puts things, and what all its containers have in common.

    @ivar run: states and made files of VMs, below C{vms}.
    @ivar uid_base: user id on the node of each container's root.
    @ivar userns: with a user namespace. Without one a container's root is the node's, with fewer rights.
    @ivar pids: processes and threads of one container.
    @ivar init: the image's own first program.
    @ivar apparmor: name of the profile, where AppArmor is in use.
    @ivar extra: file with more lines for liblxc.
    @ivar lease: file with the C{until} of the node's lease; past it, a supervisor starts nothing.
    """

    run: Path = field(converter=absolute)
    homes: Path = field(converter=absolute)
    uid_base: int = 1_000_000
    userns: bool = True
    pids: int = 1000
    init: str = "/sbin/init"
    apparmor: str = "generated"
    fuse: bool = False
    extra: Path | None = None
    lease: Path | None = None

    @property
    def owner(self) -> int:
        """User id of a container's root on the node."""
        return self.uid_base if self.userns else 0


class LxcFiles:
    """The folders of L{LxcLayout}, VM by VM."""

    def __init__(self, layout: LxcLayout) -> None:
        self.layout = layout
        self.states = StateFolder(layout.run)

    def name(self, vm_id: VMId) -> str:
        """liblxc's name for the container: no other node's on this machine has it, even with the same storage."""
        return f"qvd-{vm_id}-{hashlib.sha256(os.fsencode(self.layout.run)).hexdigest()[:8]}"

    def check(self, spec: VMSpec) -> None:
        """@raise PermanentError: a sentence that says what is missing, or wrong in the settings."""
        require(os.geteuid() == 0, "The lxc driver works only as root")
        require(shutil.which("lxc-start") is not None, "LXC (lxc-start) is not installed on this node")
        check_login(spec)
        if self.layout.userns:
            self._check_ids()
        self._extra()

    def _check_ids(self) -> None:
        for path in SUBORDINATE:
            try:
                text = Path(path).read_text("utf-8", "replace")
            except FileNotFoundError:
                text = ""
            require(
                grants(text, self.layout.uid_base),
                f"Containers of this node need user ids of their own: add the line"
                f" root:{self.layout.uid_base}:{IDS} to {path}",
            )

    def _extra(self) -> tuple[str, ...]:
        path = self.layout.extra
        if path is None:
            return ()
        try:
            return checked_extra(path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"{path}: {error}") from None

    def make_home(self, spec: VMSpec) -> None:
        """Make sure that the home is there, if one persists."""
        if spec.persistence is not Persistence.NOTHING:
            # Its top is the container's /home: the user is to pass through it.
            make_home(self.layout.homes, spec.home, self.layout.owner, 0o711)

    def begin(self, vm_id: VMId) -> None:
        """From now on the VM is one that left something."""
        self.states.of(vm_id).mkdir(mode=0o700, parents=True, exist_ok=True)

    def lay_out(self, spec: VMSpec, root: RootPlan, cable: Cable) -> dict[str, Any]:
        """Make the files of one start.

        @return: the plan for L{qvd.hkd.hypervisor.lxc.launch}.
        """
        folder = self.states.of(spec.vm_id)
        paths = {name: str(folder / name) for name in ("files", "etc", "started", "halt", "config")}
        paths |= {"init": str(folder / "init.json"), "log": str(folder / "agent.log")}
        for name in ("files", "etc"):
            (folder / name).mkdir(mode=0o700)
        write_private(folder / "files/init", LAUNCHER.format(init=shlex.quote(self.layout.init)))
        write_private(folder / "files/guest.json", marker(spec, cable.nic.address))
        for name, text in etc_files(spec):
            write_private(folder / "etc" / name, text, 0o644)
        write_private(folder / "note", NOTE.format(init=shlex.quote(paths["init"])))
        os.mkfifo(folder / "started", 0o600)
        os.chown(folder / "started", self.layout.owner, self.layout.owner)
        write_private(folder / "config", config_text(self._container(spec, cable)))
        return {
            **paths,
            "locks": self._locks(spec, root),
            "lease": str(self.layout.lease) if self.layout.lease else None,
            "log_limit": LOG_LIMIT,
            "name": self.name(spec.vm_id),
            "root": asdict(root),
            "home": self._home(spec),
            "owner": self.layout.owner,
            "image_init": self.layout.init,
        }

    def clean(self, vm_id: VMId) -> None:
        """Remove all that is in the state's folder, and it too."""
        remove_tree(self.states.of(vm_id))

    def halt_signal(self, vm_id: VMId) -> int:
        """What asks the container to power off, as its supervisor has found out."""
        try:
            return int((self.states.of(vm_id) / "halt").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return signal.SIGPWR

    def _container(self, spec: VMSpec, cable: Cable) -> Container:
        folder = self.states.of(spec.vm_id)
        return Container(
            name=self.name(spec.vm_id),
            hostname=host_name(spec.name),
            console=str(folder / "console.log"),
            note=f"/bin/sh {shlex.quote(str(folder / 'note'))}",
            cable=cable,
            limits=Limits(spec.memory, spec.cpus, self.layout.pids),
            controllers=find_controllers(),
            uid_base=self.layout.uid_base if self.layout.userns else None,
            fuse=self.layout.fuse,
            apparmor=self.layout.apparmor if confined() else None,
            seccomp=SECCOMP if os.path.exists(SECCOMP) else None,
            extra=self._extra(),
        )

    def _home(self, spec: VMSpec) -> str | None:
        if spec.persistence is Persistence.NOTHING:
            return None
        return str(self.layout.homes.joinpath(*checked_parts(spec.home)))

    def _locks(self, spec: VMSpec, root: RootPlan) -> list[str]:
        kept = [self._home(spec), root.upper if spec.persistence is Persistence.EVERYTHING else None]
        return [f"{path}.lock" for path in kept if path is not None]


def grants(text: str, base: int) -> bool:
    """Whether a file like C{/etc/subuid} lets root use the ids of a container."""
    for line in text.splitlines():
        match = GRANT.fullmatch(line.strip())
        if match is not None:
            first, count = int(match[1]), int(match[2])
            if first <= base and base + IDS <= first + count:
                return True
    return False


def confined() -> bool:
    """Whether AppArmor is in use here."""
    try:
        return APPARMOR.read_text("ascii").strip() == "Y"
    except OSError:
        return False


def guest_of(spec: VMSpec, address: str) -> Guest:
    """Where the node finds the agent and the X server."""
    return Guest(address, VMA_PORT, NX_BASE + DISPLAY, spec.secret)


def etc_files(spec: VMSpec) -> Iterator[tuple[str, str]]:
    """What takes the place of files that an image has in C{/etc}."""
    name = host_name(spec.name)
    yield "hostname", f"{name}\n"
    yield "hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n"
    yield "machine-id", f"{spec.vm_id:032x}\n"


def marker(spec: VMSpec, address: str) -> str:
    """C{/.qvd/guest.json}: tells the agent that it is in a guest, in which, and where to listen."""
    return json.dumps(
        {
            "driver": "lxc",
            "vm_id": spec.vm_id,
            "secret": spec.secret.reveal(),
            "address": address,
            "vma_port": VMA_PORT,
            "display": DISPLAY,
            "login": spec.login,
            "home": f"/home/{spec.login}",
            "x_session": None,
        }
    )
