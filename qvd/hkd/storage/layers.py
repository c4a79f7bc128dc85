# -*- test-case-name: tests.machines.test_storage_trouble -*-
"""Writable layers over unpacked images: the port of the back-ends, and these. It all blocks: it is for threads."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from zope.interface import Interface, implementer

from qvd.hkd.files.folders import opened, remove_tree
from qvd.hkd.storage import subvolumes
from qvd.model.rootplan import RootPlan

SNAPSHOT = "root"


class ILayers(Interface):
    """Makes and removes layers. Every call may raise L{OSError}."""

    def make(root: Path, folder: Path, merged: Path) -> RootPlan:
        """Make what is missing of a layer.

        @param root: an unpacked image.
        @param folder: is there, and is the layer's own.
        @param merged: an empty folder.
        """

    def remove(folder: Path) -> None:
        """Remove a folder and the layers in it; no effect where there is none."""


@implementer(ILayers)
class OverlayLayers:
    """What is written goes to a folder, which a mount shows over the image.

    @param owner: host's id of the container's root.
    """

    def __init__(self, owner: int) -> None:
        self._owner = owner

    def make(self, root: Path, folder: Path, merged: Path) -> RootPlan:
        upper, work = folder / "upper", folder / "work"
        for path in (upper, work):
            path.mkdir(mode=0o700, exist_ok=True)
        # It is the container's /, whatever our umask is.
        os.chown(upper, self._owner, self._owner, follow_symlinks=False)
        upper.chmod(0o755)
        return RootPlan(merged=str(merged), lower=str(root), upper=str(upper), work=str(work))

    def remove(self, folder: Path) -> None:
        remove_tree(folder)


@implementer(ILayers)
class BtrfsLayers:
    """A snapshot of the image, which costs what is changed in it. Images and layers lie in one file system."""

    def make(self, root: Path, folder: Path, merged: Path) -> RootPlan:
        with opened(root) as source, opened(folder) as parent, suppress(FileExistsError):
            subvolumes.snapshot(source, parent, SNAPSHOT)
        return RootPlan(merged=str(merged), upper=str(folder / SNAPSHOT))

    def remove(self, folder: Path) -> None:
        subvolumes.remove_tree(folder)
