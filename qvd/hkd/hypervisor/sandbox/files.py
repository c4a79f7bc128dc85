# -*- test-case-name: tests.integration.test_sandbox -*-
"""Files of the sandbox VMs on the host: checked before a start, made for it, removed after the end. It all blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import field, frozen

from qvd.hkd.files.folders import checked_parts, make_home, numbered, remove_tree
from qvd.hkd.hypervisor.sandbox.guestpython import GuestPython
from qvd.hkd.hypervisor.sandbox.ports import GuestPorts
from qvd.hkd.hypervisor.sandbox.root import Boot, command, generated, options
from qvd.hkd.hypervisor.state import StateFolder, write_private
from qvd.hkd.hypervisor.vmspec import check_login, require
from qvd.model.ids import VMId
from qvd.model.records import VMSpec

IMAGE_AGENT = "usr/bin/qvd-vma"
IMAGE_CONFIG = "etc/qvd/vma.conf"
LOG_LIMIT = 1 << 20
"""Bytes of the agent's log; one older file of that length is kept."""


def absolute(path: Path) -> Path:
    """The supervisor works in another folder than the daemon."""
    return path.absolute()


@frozen
class SandboxLayout:
    """Where the sandbox driver finds and puts things.

    @ivar run: states and made files of VMs, below C{vms}.
    @ivar uid_base: VM n's user has this user id plus n.
    @ivar host_files: VMs without an image boot from the host's own C{/usr}.
    @ivar x_session: program copied into each guest as its X session.
    @ivar python: runs the agent in guests whose image has none.
    @ivar command: runs in the guest instead of the agent; for tests.
    @ivar lease: file with the C{until} of the node's lease; past it, a supervisor starts nothing.
    """

    run: Path = field(converter=absolute)
    images: Path = field(converter=absolute)
    homes: Path = field(converter=absolute)
    overlays: Path = field(converter=absolute)
    uid_base: int
    host_files: bool
    x_session: Path | None
    python: GuestPython
    command: tuple[str, ...] | None = None
    lease: Path | None = None


class SandboxFiles:
    """The folders of L{SandboxLayout}, VM by VM."""

    def __init__(self, layout: SandboxLayout) -> None:
        self.layout = layout
        self.states = StateFolder(layout.run)
        self.rooted = os.geteuid() == 0

    def ids(self) -> set[VMId]:
        """VMs of which there is anything."""
        return self.states.ids() | numbered(self.layout.overlays)

    def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Check all that can be checked before a start, and make the home.

        @raise PermanentError: a sentence that says what is missing.
        """
        progress("Checking the image")
        require(shutil.which("bwrap") is not None, "bubblewrap (bwrap) is not installed on this node")
        check_login(spec)
        self._check_root(spec)
        if self.layout.command is None and not self._own_agent(spec):
            self._check_python(spec)
        session = self.layout.x_session
        require(session is None or session.is_file(), f"The session program {session} does not exist")
        progress("Preparing the home")
        make_home(self.layout.homes, spec.home, self._uid(spec.vm_id) if self.rooted else None)

    def _check_root(self, spec: VMSpec) -> None:
        if not spec.image:
            require(
                self.layout.host_files,
                f"VM {spec.vm_id} has no disk image, and this node does not boot from its own files",
            )
        image = self._image(spec)
        place = f"The image {spec.image}" if image else "This node"
        require(image is None or (image.is_dir() and not image.is_symlink()), f"{place} does not exist on this node")
        wanted = (["usr/bin/nxagent"] if self.layout.command is None else []) + (["usr/bin/setpriv"] * self.rooted)
        for name in wanted:
            require(os.path.lexists((image or Path("/")) / name), f"{place} lacks {name}")

    def _check_python(self, spec: VMSpec) -> None:
        python, image = self.layout.python, self._image(spec)
        python.check_clear_of(f"/home/{spec.login}")
        if self.rooted:
            python.check_readable()
        if image is not None and python.base.is_relative_to("/usr"):
            name = python.interpreter.relative_to("/")
            require(
                (image / name).exists(), f"The image {spec.image} lacks {IMAGE_AGENT}, and {name} to run this node's"
            )

    def lay_out(self, spec: VMSpec, ports: GuestPorts) -> dict[str, Any]:
        """Make the files of one start in place of those of an earlier one.

        @return: the plan for L{qvd.hkd.hypervisor.sandbox.launch}.
        """
        self.clean(spec.vm_id)
        folder = self.states.of(spec.vm_id)
        folder.mkdir(mode=0o700, parents=True)
        boot = self._boot(spec, ports)
        boot.files.mkdir(mode=0o700)
        for name, text in generated(boot).items():
            write_private(boot.files / name, text, 0o600 if name == "guest.json" else 0o644)
        if self.rooted:
            os.chown(boot.files / "guest.json", boot.uid, boot.uid)
        if boot.x_session:
            session = boot.files / "x-session"
            shutil.copyfile(boot.x_session, session)
            session.chmod(0o755)
        return {
            "locks": [f"{boot.home}.lock"],
            "lease": str(self.layout.lease) if self.layout.lease else None,
            "log": str(folder / "agent.log"),
            "log_limit": LOG_LIMIT,
            "init": str(folder / "init.json"),
            "overlay": self._make_overlay(boot),
            "options": options(boot),
            "command": command(boot),
        }

    def clean(self, vm_id: VMId) -> None:
        """Remove all but the home. The state goes last, so that it can be tried again."""
        remove_tree(self.layout.overlays / str(vm_id))
        remove_tree(self.states.of(vm_id))

    def _boot(self, spec: VMSpec, ports: GuestPorts) -> Boot:
        image = self._image(spec)
        return Boot(
            spec,
            ports,
            self._uid(spec.vm_id),
            self.rooted,
            self.states.of(spec.vm_id) / "files",
            self.layout.homes.joinpath(*checked_parts(spec.home)),
            self.layout.overlays / str(spec.vm_id) / "merged" if image else None,
            image,
            self.layout.x_session,
            self._agent(spec),
            None if self._own_agent(spec) else self.layout.python,
        )

    def _agent(self, spec: VMSpec) -> tuple[str, ...]:
        if self.layout.command is not None:
            return self.layout.command
        image = self._image(spec)
        configured = image is not None and (image / IMAGE_CONFIG).is_file()
        words = ("--config", f"/{IMAGE_CONFIG}") if configured else ()
        if self._own_agent(spec):
            return (f"/{IMAGE_AGENT}", *words)
        return (self.layout.python.executable, "-P", "-m", "twisted", "qvd-vma", *words)

    def _make_overlay(self, boot: Boot) -> dict[str, str] | None:
        if boot.merged is None:
            return None
        folder = boot.merged.parent
        folder.mkdir(mode=0o700, parents=True)
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir()
        # It becomes the guest's /, whatever our umask is.
        (folder / "upper").chmod(0o755)
        return {"lower": str(boot.image)} | {name: str(folder / name) for name in ("upper", "work", "merged")}

    def _image(self, spec: VMSpec) -> Path | None:
        if not spec.image:
            return None
        require("/" not in spec.image, f"{spec.image!r} is not the name of an image")
        return self.layout.images.joinpath(*checked_parts(spec.image))

    def _own_agent(self, spec: VMSpec) -> bool:
        image = self._image(spec)
        return image is not None and os.path.lexists(image / IMAGE_AGENT)

    def _uid(self, vm_id: VMId) -> int:
        return self.layout.uid_base + vm_id
