# -*- test-case-name: tests.unit.test_garbage_places -*-
"""
The folders of the storage: whose they are, and where things are put aside in them.

Each folder carries the name of its installation and a name of its own, so that the database of another installation is
told from ours, and a folder is known wherever it is mounted. It all blocks.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from attrs import frozen

from qvd.hkd.files.folders import checked_parts, opened
from qvd.model.errors import Conflict, PermanentError

CLAIM = ".qvd-installation"
TRASH = ".trash"
DOOMED = ".doomed"
"""What is in there is removed by whoever collects next."""
MOUNTS = Path("/proc/self/mountinfo")
OCTAL = re.compile(r"\\([0-7]{3})")


@frozen
class Claim:
    """What L{CLAIM} says.

    @ivar storage: the folder's own name.
    """

    installation: str
    storage: str


@contextmanager
def opened_root(path: Path) -> Iterator[int]:
    """The folder that the settings name, which may be a symbolic link.

    @raise FileNotFoundError: it is not there.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_parent(root: int, path: str) -> Iterator[tuple[int, str]]:
    """The folder that a thing is in, and its name there. No symbolic link is followed on the way.

    @raise PermanentError: there is one, or the path is not a plain one.
    """
    *parents, name = checked_parts(path)
    with ExitStack() as stack:
        folder = root
        for part in parents:
            folder = stack.enter_context(opened(part, folder))
        yield folder, name


@contextmanager
def opened_aside(root: int, name: str) -> Iterator[int]:
    """L{TRASH} or L{DOOMED}, made where it is missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=root)
    except FileExistsError:
        pass
    with opened(name, root) as fd:
        yield fd


def claimed(root: int, path: Path, installation: str, claim: bool) -> str | None:
    """The folder's own name, if it belongs to the installation; L{None}: it belongs to none, and is not to be claimed.

    @raise Conflict: it belongs to another installation.
    @raise PermanentError: nobody can say.
    """
    found = read_claim(root, path)
    if found is None and claim:
        write_claim(root, Claim(installation, str(uuid4())))
        # Perhaps another node was there first.
        found = read_claim(root, path)
    if found is None:
        return None
    if found.installation != installation:
        raise Conflict(
            f"{path} belongs to another installation ({found.installation}; the database is that of {installation}):"
            f" nothing is collected there. If that is wrong, remove {path / CLAIM}"
        )
    return found.storage


def read_claim(root: int, path: Path) -> Claim | None:
    try:
        fd = os.open(CLAIM, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        content = file.read(4096)
    try:
        document = json.loads(content)
        return Claim(str(document["installation"]), str(document["storage"]))
    except (ValueError, KeyError, TypeError):
        raise PermanentError(f"{path / CLAIM} does not say whose the folder is: remove it if that is certain") from None


def write_claim(root: int, claim: Claim) -> None:
    """It appears as a whole, and never in place of another."""
    temporary = f".{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            json.dump({"installation": claim.installation, "storage": claim.storage}, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, CLAIM, src_dir_fd=root, dst_dir_fd=root)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary, dir_fd=root)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """What is mounted somewhere below a folder, as paths relative to it.

    @param mountinfo: contents of L{MOUNTS}.
    """
    found = []
    for line in mountinfo.splitlines():
        point = OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4])
        # The kernel escapes bytes, Python's paths have surrogates for them.
        path = Path(os.fsdecode(point.encode("latin-1", "replace")) if not point.isascii() else point)
        if path != folder and path.is_relative_to(folder):
            found.append(str(path.relative_to(folder)))
    return found
