# -*- test-case-name: tests.unit.test_garbage_moving -*-
"""
Takes things away: at once or not at all, and on the file system where they are. It all blocks.

A thing that users made goes to the trash, any other one to a folder whose contents are removed afterwards. Renaming is
one step for each of its parts; emptying may take long, and is done to what nobody can find any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qvd.hkd.files.folders import opened
from qvd.hkd.garbage.listing import DISK, FILES, FOLDERS, LINK, LOCK, MOUNTED, UNPACKING
from qvd.hkd.garbage.places import DOOMED, opened_aside, opened_parent, opened_root
from qvd.hkd.garbage.worker import Beat
from qvd.model.errors import PermanentError
from qvd.model.garbage import Kind, Thing

BUSY = "its lock is held: it is in use"
UPPER_LOCK = f"upper{LOCK}"
MOST_ENTRIES = 200_000
"""Of a thing whose size is asked for."""
BLOCK = 512
FLOCK = struct.Struct("@hhqqi4x")
"""C{struct flock}: type, whence, start, length (0: to the end), process."""


def set_aside(root: Path, thing: Thing, aside: str, date: str, beat: Beat) -> str:
    """Move a thing with all that belongs to it into a new folder in C{aside}.

    @return: that folder's path below C{root}; empty: the thing is not there any more.
    @raise PermanentError: it must be left alone; all is as it was.
    """
    name = f"{date}-{thing.key.path.replace('/', '-').lstrip('.')}-{secrets.token_hex(4)}"
    try:
        with opened_root(root) as top, opened_parent(top, thing.key.path) as (folder, own):
            parts = parts_of(folder, thing.kind, own)
            if not parts:
                return ""
            locks = locks_of(folder, thing, own, parts)
            with locked(folder, locks), opened_aside(top, aside) as heap:
                move_all(folder, parts, heap, name, beat)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PermanentError(MOUNTED if error.errno == errno.EBUSY else f"{error.strerror}") from None
    return f"{aside}/{name}"


def parts_of(folder: int, kind: Kind, own: str) -> list[str]:
    """Names of what a thing consists of, its locks last.

    @raise PermanentError: one of them is not what it should be.
    """
    if kind is Kind.HOME:
        names = [own + suffix for suffix in (*FOLDERS, *FILES)]
    else:
        names = [own, own + LOCK] if own.endswith(DISK) else [own]
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) if name.endswith((LOCK, DISK)) else stat.S_ISDIR(mode)):
                raise PermanentError(LINK)
            found.append(name)
    return sorted(found, key=lambda part: part.endswith(LOCK))


def locks_of(folder: int, thing: Thing, own: str, parts: Sequence[str]) -> list[str]:
    """The files that whoever uses the thing has locked."""
    unpacking = UNPACKING.fullmatch(own) if thing.kind is Kind.UNFINISHED else None
    if unpacking is not None:
        lock = f".{unpacking['base']}{LOCK}"
        with contextlib.suppress(FileNotFoundError):
            os.stat(lock, dir_fd=folder, follow_symlinks=False)
            return [lock]
    inside = layer_locks(folder, own) if thing.kind is Kind.PERSISTENT and not own.endswith(DISK) else []
    return [part for part in parts if part.endswith((LOCK, DISK))] + inside


def layer_locks(folder: int, own: str) -> list[str]:
    """Those of a container's layers that persist: beside each layer, or beside the folder in it that is written to."""
    found = []
    with opened(own, folder) as layers:
        for entry in sorted(os.scandir(layers), key=lambda entry: entry.name):
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(LOCK):
                found.append(f"{own}/{entry.name}")
            elif entry.is_dir(follow_symlinks=False):
                with opened(entry.name, layers) as layer:
                    found += [f"{own}/{entry.name}/{UPPER_LOCK}"] if is_file(UPPER_LOCK, layer) else []
    return found


def is_file(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(folder: int, locks: Sequence[str]) -> Iterator[None]:
    """Hold the locks, as a VM that runs or a node that unpacks would.

    @param locks: names of lock files, and of disks, which whoever runs a virtual machine locks themselves.
    @raise PermanentError: one does.
    """
    with contextlib.ExitStack() as stack:
        for lock in locks:
            fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, fd)
            if lock.endswith(DISK):
                refuse_open_disk(fd)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PermanentError(BUSY) from None
        yield


def refuse_open_disk(disk: int) -> None:
    """@raise PermanentError: somebody has locked a part of it, as QEMU does."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer: bytes = fcntl.fcntl(disk, fcntl.F_OFD_GETLK, asked)
    if FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
        raise PermanentError(BUSY)


def move_all(folder: int, parts: Sequence[str], heap: int, name: str, beat: Beat) -> None:
    """Move the parts into the new folder C{name}, or none of them."""
    os.mkdir(name, 0o700, dir_fd=heap)
    moved: list[str] = []
    with opened(name, heap) as target:
        try:
            for part in parts:
                beat()
                os.rename(part, part, src_dir_fd=folder, dst_dir_fd=target)
                moved.append(part)
            # Whoever has given us up meanwhile believes that nothing was moved.
            beat()
        except BaseException:
            for part in reversed(moved):
                put_back(part, target, folder)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=heap)
            raise


def restore(root: Path, thing: Thing, path: str) -> None:
    """Undo L{set_aside}, which has returned this path.

    @raise PermanentError: it cannot be undone.
    """
    try:
        with (
            opened_root(root) as top,
            opened_parent(top, path) as (heap, name),
            opened_parent(top, thing.key.path) as (folder, _),
        ):
            with opened(name, heap) as target:
                for part in os.listdir(target):
                    put_back(part, target, folder)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=heap)
    except OSError as error:
        raise PermanentError(f"{root / path} cannot be put back: {error.strerror}") from None


def put_back(part: str, target: int, folder: int) -> None:
    """Not over what was made in its place."""
    try:
        os.stat(part, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(part, part, src_dir_fd=target, dst_dir_fd=folder)


def doomed(root: Path) -> list[str]:
    """Paths, below C{root}, of what is to be removed."""
    try:
        with opened_root(root) as top, opened(DOOMED, top) as heap:
            return [f"{DOOMED}/{name}" for name in sorted(os.listdir(heap))]
    except FileNotFoundError:
        return []


def remove(root: Path, path: str, remove_tree: Callable[[Path], None]) -> None:
    """Remove what L{doomed} has named.

    @param remove_tree: as L{qvd.hkd.files.folders.remove_tree}.
    @raise PermanentError: something is mounted in it, or the file system says no. What is left can be removed later.
    """
    try:
        with opened_root(root) as top, opened_parent(top, path) as (heap, name):
            remove_tree(Path(f"/proc/self/fd/{heap}", name))
    except OSError as error:
        reason = MOUNTED if error.errno in (None, errno.EBUSY) else error.strerror
        raise PermanentError(f"{root / path} cannot be removed: {reason}") from None


def size_of(root: Path, thing: Thing, beat: Beat) -> int | None:
    """Bytes on the disk; L{None} for what has too many files, or too deep ones, or is not to be read."""
    try:
        with opened_root(root) as top, opened_parent(top, thing.key.path) as (folder, own):
            parts = parts_of(folder, thing.kind, own)
            return sum(blocks_of(folder, part, not part.endswith((LOCK, DISK)), beat) for part in parts)
    except (OSError, RecursionError, PermanentError, TooMany):
        return None


class TooMany(Exception):
    """Nobody wants to wait for that."""


def blocks_of(folder: int, part: str, tree: bool, beat: Beat) -> int:
    total, count = os.stat(part, dir_fd=folder, follow_symlinks=False).st_blocks, 0
    for _, folders, files, fd in os.fwalk(part, dir_fd=folder) if tree else ():
        beat()
        count += len(folders) + len(files)
        if count > MOST_ENTRIES:
            raise TooMany
        total += sum(os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks for name in (*folders, *files))
    return total * BLOCK
