# -*- test-case-name: tests.unit.test_storage_layers -*-
"""Writable layers over unpacked images: the port of the back-ends, and overlayfs. It all blocks: it is for threads."""

from __future__ import annotations

import os
from pathlib import Path

from zope.interface import Attribute, Interface, implementer

from qvd.hkd.files.folders import remove_tree
from qvd.model.rootplan import RootPlan


class ILayers(Interface):
    """Makes and removes layers. Every call may raise L{OSError}."""

    subvolumes: bool = Attribute("Whether the root of each base must be a btrfs subvolume.")

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

    subvolumes = False

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
