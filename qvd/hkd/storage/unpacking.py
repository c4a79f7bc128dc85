# -*- test-case-name: tests.machines.test_storage_unpack -*-
"""
From an image's file to an unpacked base: locked between nodes, checked, published at once or not at all.

This is root, and touches nothing of the archive but its bytes: it reads the file, sums it up, and feeds a confined
process (L{qvd.hkd.storage.confinement}) that unpacks it. Standard library only.

It reads one line of JSON (L{Plan}) from standard input and writes lines of JSON to standard output: C{percent} or
C{waiting} on the way, at last C{base}, or C{refused} (what is wrong with the image), or C{errno} and C{error} (what is
wrong with the storage).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

from qvd.hkd.files.folders import opened
from qvd.hkd.storage import names, subvolumes
from qvd.hkd.storage.confinement import check, die_with_parent, libc
from qvd.hkd.storage.feeding import Source, Unpacking
from qvd.hkd.storage.streams import Refused
from qvd.hkd.storage.subvolumes import remove_tree
from qvd.model.imagetype import ARCHIVES, HEAD, ImageType, sniff

LINE = 1 << 16
"""Bytes of the plan."""
AGAIN = 0.25
"""Seconds between two tries to get the lock."""
ARCHIVE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting for anybody to write into a pipe that was put in the image's place."""


class Plan(TypedDict):
    """What is to be done.

    @ivar parent: process number of the daemon.
    @ivar image: name of the file in the folder C{images}.
    @ivar bases: folder of unpacked images.
    @ivar checksum: SHA-256 that the file must have; L{None}: any.
    @ivar limit: bytes that may come out of it.
    @ivar uid_base: the first of the ids that own what is unpacked.
    @ivar signs: at least one of these paths must be in it.
    @ivar subvolume: the root is to be a subvolume of btrfs.
    @ivar patience: seconds to wait for somebody else who unpacks it.
    """

    parent: int
    images: str
    image: str
    bases: str
    checksum: str | None
    limit: int
    uid_base: int
    signs: list[str]
    patience: float
    subvolume: bool


def main() -> None:
    """Do what the plan says. Without a whole line the daemon has died."""
    os.setsid()
    os.umask(0o022)
    line = sys.stdin.buffer.readline(LINE)
    if line.endswith(b"\n"):
        plan: Plan = json.loads(line)
        die_with_parent(plan["parent"])
        tell(**answer(plan))


def tell(**words: object) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def answer(plan: Plan) -> dict[str, object]:
    """The last line."""
    try:
        return {"base": provide(plan)}
    except Refused as refused:
        return {"refused": str(refused)}
    except OSError as error:
        return {"errno": error.errno, "error": error.strerror or str(error)}


def provide(plan: Plan) -> str:
    """Unpack the image, unless that was done.

    @return: the base's name.
    """
    bases = Path(plan["bases"])
    with opened_archive(Path(plan["images"], plan["image"])) as archive:
        base = names.base_name(plan["image"], plan["checksum"], os.fstat(archive), subvolume=plan["subvolume"])
        bases.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(bases / names.lock_name(base), plan["patience"]):
            if not (bases / base).exists():
                kind = check_kind(archive)
                remove_leftovers(bases, base)
                unpack_new(plan, archive, kind, bases / base)
    return base


@contextmanager
def opened_archive(path: Path) -> Iterator[int]:
    """@raise Refused: it is no file."""
    try:
        archive = os.open(path, ARCHIVE)
    except FileNotFoundError:
        raise Refused("does not exist on this node") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise Refused("is a symbolic link or a socket, and no file") from None
    try:
        if not stat.S_ISREG(os.fstat(archive).st_mode):
            what = "a folder" if stat.S_ISDIR(os.fstat(archive).st_mode) else "a pipe or a device"
            raise Refused(f"is {what}; a container needs a tar archive, compressed or not")
        yield archive
    finally:
        os.close(archive)


def check_kind(archive: int) -> ImageType:
    """@raise Refused: it can be no archive."""
    kind = sniff(os.pread(archive, HEAD, 0))
    if kind not in ARCHIVES:
        raise Refused(f"is {kind.value}; a container needs a tar archive, compressed or not")
    return kind


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Alone with a base, among all nodes.

    @raise OSError: ETIMEDOUT, it is somebody else's all the time.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + patience
        while not try_lock(lock):
            if time.monotonic() > until:
                raise OSError(errno.ETIMEDOUT, f"somebody else has been unpacking it for {patience:g} s")
            tell(waiting=True)
            select.select([], [], [], AGAIN)
        yield
    finally:
        os.close(lock)


def try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_leftovers(bases: Path, ours: str) -> None:
    """Remove what was left by those that died while they unpacked: nobody holds their lock."""
    for name in os.listdir(bases):
        base = names.base_of(name)
        if base is None:
            continue
        # What cannot be removed stands in nobody's way.
        with suppress(OSError):
            if base == ours:
                remove_tree(bases / name)
                continue
            with locked(bases / names.lock_name(base), 0.0):
                remove_tree(bases / name)


def unpack_new(plan: Plan, archive: int, kind: ImageType, base: Path) -> None:
    """Unpack into a new folder, which gets its name when all is right."""
    new = base.with_name(names.new_name(base.name))
    new.mkdir(mode=0o700)
    try:
        root = new / names.ROOT
        make_root(root, plan)
        marker = unpack_into(plan, archive, kind, root)
        (new / names.MARKER).write_text(json.dumps(marker, indent=1) + "\n", "utf-8")
        sync(new)
        new.rename(base)
    except BaseException:
        with suppress(OSError):
            remove_tree(new)
        raise


def make_root(root: Path, plan: Plan) -> None:
    if plan["subvolume"]:
        with opened(root.parent) as parent:
            subvolumes.create(parent, root.name)
    else:
        root.mkdir()
    os.chown(root, plan["uid_base"], plan["uid_base"])
    root.chmod(0o755)


def unpack_into(plan: Plan, archive: int, kind: ImageType, root: Path) -> dict[str, object]:
    """@return: what is to be remembered of it."""
    before = os.fstat(archive)
    source = Source(archive, lambda percent: tell(percent=percent))
    unpacking = Unpacking(root, kind, plan["uid_base"], plan["limit"], plan["signs"])
    try:
        done = unpacking.run(source)
    except Refused:
        # The better reason, where both are true.
        check_sum(plan["checksum"], source.sha256)
        raise
    check_sum(plan["checksum"], source.sha256)
    after = os.fstat(archive)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.EAGAIN, "it was being changed while it was unpacked")
    return {"image": plan["image"], "sha256": source.sha256, "size": before.st_size, **done}


def check_sum(expected: str | None, found: str) -> None:
    """@raise Refused: the file is another one than was registered."""
    if expected is not None and expected.lower() != found:
        raise Refused(f"is not the file that was registered: its SHA-256 is {found}, expected is {expected.lower()}")


def sync(folder: Path) -> None:
    """Have it written to the disk: what is found under its name after a power failure is taken to be whole."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(libc.syncfs(fd), "syncfs")
    finally:
        os.close(fd)
