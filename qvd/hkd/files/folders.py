# -*- test-case-name: tests.unit.test_files_folders -*-
"""
Folders made and removed where users have a hand in what they contain: no symbolic link is followed, no mount crossed.

All of this blocks: it is for threads.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qvd.model.errors import PermanentError
from qvd.model.ids import VMId

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def checked_parts(relative: str) -> tuple[str, ...]:
    """A path's parts, where it stays below its root.

    @raise PermanentError: it is empty, absolute, or has C{..} in it.
    """
    parts = tuple(relative.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise PermanentError(f"The path {relative!r} is not one below a storage folder")
    return parts


@contextmanager
def opened(path: str | Path, parent: int | None = None) -> Iterator[int]:
    """A folder's descriptor.

    @raise PermanentError: it is a symbolic link or no folder.
    """
    try:
        fd = os.open(path, FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise PermanentError(f"{Path(path).name} is a symbolic link or a file where a folder was expected") from None
    try:
        yield fd
    finally:
        os.close(fd)


def make_home(homes: Path, relative: str, owner: int | None, mode: int = 0o700) -> Path:
    """Make sure that a home is there.

    @param owner: user and group id, where we may choose; L{None}: our own.
    @raise PermanentError: the path is not a plain one below C{homes}, or the home is somebody else's.
    """
    *parents, name = checked_parts(relative)
    homes.mkdir(parents=True, exist_ok=True)
    fd = os.open(homes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            make_folder(fd, part, 0o711, None)
            with opened(part, fd) as below:
                fd, old = os.dup(below), fd
                os.close(old)
        make_folder(fd, name, mode, owner)
        with opened(name, fd) as home:
            check_owner(home, relative, os.geteuid() if owner is None else owner)
    finally:
        os.close(fd)
    return homes.joinpath(relative)


def make_folders(path: Path, mode: int) -> None:
    """Make a folder and those on the way to it that are missing, whatever our umask is."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(mode)


def make_folder(parent: int, name: str, mode: int, owner: int | None) -> None:
    """Make a folder where there is none. It gets its name last, when all else about it is right."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        return
    except FileNotFoundError:
        pass
    temporary = f".{secrets.token_hex(8)}"
    os.mkdir(temporary, 0o700, dir_fd=parent)
    with opened(temporary, parent) as fd:
        if owner is not None:
            os.fchown(fd, owner, owner)
        os.fchmod(fd, mode)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def check_owner(home: int, relative: str, owner: int) -> None:
    found = os.fstat(home).st_uid
    if found != owner:
        raise PermanentError(f"The home {relative} belongs to user id {found}, not to {owner}")


def numbered(folder: Path) -> set[VMId]:
    """VMs by the names of their folders; anything else there is not ours."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return set()
    return {VMId(int(name)) for name in names if name.isascii() and name.isdecimal()}


Crossing = Callable[[int, str], None]
"""Takes a folder's descriptor, and the name of a folder in it that lies on another device: takes it away, or raises."""


def refuse_crossing(folder: int, name: str) -> None:
    raise OSError(f"{name}: another file system is mounted there")


def remove_tree(path: Path, crossing: Crossing = refuse_crossing) -> None:
    """Remove a folder and all in it; no effect where there is none.

    @raise OSError: something is mounted in it, or the file system says no. What is left can be removed later.
    """
    try:
        with opened(path) as top:
            empty_tree(top, crossing)
        os.rmdir(path)
    except FileNotFoundError:
        pass


def empty_tree(top: int, crossing: Crossing) -> None:
    """Remove all that is in a folder.

    Folders below are moved up before they are emptied, so depth costs nothing. Moving or removing a mount point fails.
    """
    device = os.fstat(top).st_dev
    pending = empty_folder(top, top, device, crossing)
    while pending:
        name = pending.pop()
        with opened(name, top) as fd:
            pending += empty_folder(fd, top, device, crossing)
        os.rmdir(name, dir_fd=top)


def empty_folder(folder: int, top: int, device: int, crossing: Crossing) -> list[str]:
    """Remove the files, move the folders to C{top}; return these folders' new names."""
    moved = []
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, status in found:
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=folder)
            continue
        if status.st_dev != device:
            crossing(folder, name)
            continue
        if status.st_mode & 0o700 != 0o700:
            # The overlay's own folder has no permission at all.
            os.chmod(name, 0o700, dir_fd=folder)
        trash = trash_name()
        os.rename(name, trash, src_dir_fd=folder, dst_dir_fd=top)
        moved.append(trash)
    return moved


def trash_name() -> str:
    """Of a folder that is about to be removed."""
    return f".{secrets.token_hex(16)}"
