# -*- test-case-name: tests.machines.test_storage_btrfs -*-
"""
Subvolumes of btrfs, through the calls of its program C{btrfs}: relative to open folders, so no link leads elsewhere.
Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from qvd.hkd.files import folders
from qvd.hkd.files.folders import empty_tree, opened, trash_name

# linux/btrfs.h: struct btrfs_ioctl_vol_args and ..._v2, 4096 bytes each, and the calls that take them.
ARGUMENTS = struct.Struct("=q4088s")
ARGUMENTS_2 = struct.Struct("=qQQ32x4040s")
SNAP_DESTROY, SUBVOL_CREATE, SNAP_CREATE_V2 = 0x5000940F, 0x5000940E, 0x50009417
ROOT_INODE = 256
"""Of every subvolume's top folder, and of no other folder."""


def create(parent: int, name: str) -> None:
    """@raise OSError: ENOTTY, it is no btrfs."""
    fcntl.ioctl(parent, SUBVOL_CREATE, named(name))


def named(name: str) -> bytearray:
    return bytearray(ARGUMENTS.pack(0, os.fsencode(name)))


def snapshot(source: int, parent: int, name: str) -> None:
    """Make a writable copy of a subvolume, which shares all that is not changed."""
    fcntl.ioctl(parent, SNAP_CREATE_V2, bytearray(ARGUMENTS_2.pack(source, 0, 0, os.fsencode(name))))


def destroy(parent: int, name: str) -> None:
    """Remove a subvolume with all in it. Whoever has a folder of it can make more of them there, however deep: they are
    moved up and removed first.

    @raise OSError: EINVAL, it is none.
    """
    pending = [name]
    while pending:
        try:
            fcntl.ioctl(parent, SNAP_DESTROY, named(pending[-1]))
            pending.pop()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            pending += lift_nested(parent, pending[-1])


def lift_nested(parent: int, name: str) -> list[str]:
    """Empty a subvolume; what others are in it goes to C{parent}.

    @return: their new names.
    """
    lifted: list[str] = []

    def lift(folder: int, nested: str) -> None:
        trash = trash_name()
        os.rename(nested, trash, src_dir_fd=folder, dst_dir_fd=parent)
        lifted.append(trash)

    with opened(name, parent) as fd:
        empty_tree(fd, lift)
    return lifted


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, subvolumes too; no effect where there is none.

    @raise OSError: something is mounted in it, or the file system says no.
    """
    folders.remove_tree(path, cross)


def cross(folder: int, name: str) -> None:
    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino != ROOT_INODE:
        folders.refuse_crossing(folder, name)
    destroy(folder, name)
