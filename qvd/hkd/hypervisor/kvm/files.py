# -*- test-case-name: tests.unit.test_kvm_files -*-
"""
Files of the virtual machines on the node: checked before a start, made for it, removed after the end.

It all blocks, and for as long as the storage likes: it is for threads.

C{OVERLAYS/N/} is the writable layer of VM N's run; the file C{node} in it says whose that is, as the storage is shared.
C{OVERLAYS/persistent/N-BASE.qcow2} is a layer that persists, one for each image that the VM has had: after a change of
images the old one is kept aside, and found again when the change is taken back. C{HOMES/TENANT/N.qcow2} is the user's
disk. QEMU locks each disk that it writes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from qvd.hkd.files.folders import checked_parts, numbered, remove_tree
from qvd.hkd.hypervisor.kvm.checksums import Checksums
from qvd.hkd.hypervisor.kvm.disks import check_image, make_disk, make_overlay
from qvd.hkd.hypervisor.kvm.domain import DirectBoot
from qvd.hkd.hypervisor.kvm.state import KvmStates
from qvd.model.errors import PermanentError
from qvd.model.ids import VMId
from qvd.model.records import Persistence, VMSpec

OVERLAY = "disk.qcow2"
OWNER = "node"
LONGEST_SOCKET = 107
"""Bytes of a UNIX socket's path."""


def absolute(path: Path) -> Path:
    """Other daemons work with the paths too."""
    return path.absolute()


@frozen
class KvmLayout:
    """Where the driver finds and puts things.

    @ivar run: states and sockets of VMs, below C{vms}.
    @ivar node: name of this node, as no other node has it.
    @ivar pids: libvirt's folder of notes on QEMU's processes.
    @ivar user_storage: bytes of a user's disk, where the OSF says nothing.
    @ivar lease: file with the C{until} of the node's lease; past it, nothing is started.
    @ivar boot: for tests.
    """

    run: Path = field(converter=absolute)
    images: Path = field(converter=absolute)
    homes: Path = field(converter=absolute)
    overlays: Path = field(converter=absolute)
    node: str
    pids: Path
    user_storage: int
    lease: Path | None = None
    boot: DirectBoot | None = None


@frozen
class Disks:
    """What one run of a VM has."""

    base: Path
    overlay: Path
    user: Path | None


class KvmFiles:
    """The folders of L{KvmLayout}, VM by VM."""

    def __init__(self, layout: KvmLayout) -> None:
        self.layout = layout
        self.states = KvmStates(layout.run, layout.pids)
        self._checksums = Checksums(layout.run / "checksums.json")

    def ids(self) -> set[VMId]:
        """VMs of which this node has anything."""
        overlays = numbered(self.layout.overlays)
        return self.states.ids() | {vm_id for vm_id in overlays if self._is_ours(vm_id)}

    def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Check all that can be checked before a start.

        @raise PermanentError: a sentence that says what is missing.
        """
        progress("Checking the image")
        checked_parts(spec.home)
        if len(str(self.channel(spec.vm_id))) > LONGEST_SOCKET:
            raise PermanentError(f"The path {self.layout.run} (path.run) is too long for sockets of VMs in it")
        check_image(self._image(spec))

    def verify(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Read the whole image, unless that was done.

        @raise PermanentError: it is not the one that was registered.
        """
        if spec.checksum is not None:
            self._checksums.verify(self._image(spec), spec.checksum, progress)

    def check_lease(self) -> None:
        """@raise PermanentError: it is over, and another node may run the VM."""
        if self.layout.lease is not None:
            until = float(json.loads(self.layout.lease.read_bytes())["until"])
            if until <= time.clock_gettime(time.CLOCK_BOOTTIME):
                raise PermanentError("The lease of this node is over")

    def lay_out(self, spec: VMSpec) -> Disks:
        """Make the files of one start in place of those of an earlier one."""
        remove_tree(self._folder(spec.vm_id))
        remove_tree(self.states.of(spec.vm_id))
        self.states.of(spec.vm_id).mkdir(mode=0o711, parents=True)
        image = self._image(spec)
        overlay = self._overlay(spec)
        if not overlay.exists():
            make_overlay(image, overlay)
        return Disks(image, overlay, self._user_disk(spec))

    def clean(self, vm_id: VMId) -> None:
        """Remove all that does not persist. The state goes last, so that it can be tried again."""
        if self._is_ours(vm_id):
            remove_tree(self._folder(vm_id))
        remove_tree(self.states.of(vm_id))

    def channel(self, vm_id: VMId) -> Path:
        """Socket of the agent's channel."""
        return self.states.of(vm_id) / "agent.sock"

    def console(self, vm_id: VMId) -> Path:
        """Socket of the serial console."""
        return self.states.of(vm_id) / "console.sock"

    def console_log(self, vm_id: VMId) -> Path:
        """What the guest has said there."""
        return self.states.of(vm_id) / "console.log"

    def _image(self, spec: VMSpec) -> Path:
        if not spec.image:
            raise PermanentError(f"VM {spec.vm_id} has no disk image")
        if spec.image_type not in (None, "kvm"):
            raise PermanentError(f"The image {spec.image} is one for {spec.image_type}, not for kvm")
        if "/" in spec.image:
            raise PermanentError(f"{spec.image!r} is not the name of an image")
        return self.layout.images.joinpath(*checked_parts(spec.image))

    def _overlay(self, spec: VMSpec) -> Path:
        if spec.persistence is Persistence.EVERYTHING:
            name = f"{spec.vm_id}-{base_key(spec)}.qcow2"
            return self.layout.overlays / "persistent" / name
        folder = self._folder(spec.vm_id)
        folder.mkdir(mode=0o711, parents=True)
        (folder / OWNER).write_text(self.layout.node, "utf-8")
        return folder / OVERLAY

    def _user_disk(self, spec: VMSpec) -> Path | None:
        if spec.persistence is Persistence.NOTHING:
            return None
        *parents, name = checked_parts(spec.home)
        path = self.layout.homes.joinpath(*parents, f"{name}.qcow2")
        if not path.exists():
            make_disk(path, spec.user_storage or self.layout.user_storage)
        return path

    def _folder(self, vm_id: VMId) -> Path:
        return self.layout.overlays / str(vm_id)

    def _is_ours(self, vm_id: VMId) -> bool:
        """Another node may have made it since. One without a name was not finished, by whomever."""
        try:
            return (self._folder(vm_id) / OWNER).read_text("utf-8") == self.layout.node
        except FileNotFoundError:
            return False


def base_key(spec: VMSpec) -> str:
    """Short name of the image that a layer belongs to."""
    return hashlib.sha256(f"{spec.image}\n{spec.checksum or ''}".encode()).hexdigest()[:16]
