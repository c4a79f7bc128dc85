# -*- test-case-name: tests.unit.test_hkd_configured -*-
"""Where the root file systems of containers are, and what is asked of an image."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from attrs import field, frozen

from qvd.model.ids import VMId

SIGNS = ("sbin/init", "usr/sbin/init", ".qvd/init", "bin/sh", "usr/bin/sh")
"""One of these is in every root file system that can do anything."""


def absolute(path: Path) -> Path:
    """Programs that we start work in another folder."""
    return path.absolute()


@frozen
class StorageLayout:
    """Folders, of which all but C{overlays} must be shared between nodes.

    @ivar bases: of unpacked images.
    @ivar overlays: of writable layers; shared where they are to persist on every node.
    @ivar node: name of this node, which tells its layers from those of others.
    @ivar uid_base: host's id of the containers' root; there are 65536 of them, the same for all containers.
    @ivar limit: bytes that may come out of one image.
    @ivar subvolumes: unpacked images are btrfs subvolumes.
    @ivar signs: at least one of these paths must be in an image.
    """

    images: Path = field(converter=absolute)
    bases: Path = field(converter=absolute)
    overlays: Path = field(converter=absolute)
    node: str
    uid_base: int
    limit: int
    subvolumes: bool = False
    signs: tuple[str, ...] = SIGNS

    def run_of(self, vm_id: VMId) -> Path:
        """What a VM has here while it runs on this node. Another node that has it next uses another folder, so neither
        can take away the other's."""
        return self.overlays / str(vm_id) / f"node-{quote(self.node, safe='')}"

    def kept_of(self, vm_id: VMId) -> Path:
        """Layers of a VM that persist, one for each image that it has run."""
        return self.overlays / "persistent" / str(vm_id)
