# -*- test-case-name: tests.doctor.test_mounts -*-
"""What is mounted here, and what should be."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

MOUNTS, TABLE = Path("/proc/self/mountinfo"), Path("/etc/fstab")
OCTAL = re.compile(r"\\([0-7]{3})")
SHARED_KINDS = frozenset(
    "nfs nfs4 ceph cifs smb3 glusterfs lustre gfs2 ocfs2 9p virtiofs beegfs gpfs orangefs afs panfs".split()
)
"""File systems that several machines see. FUSE's are told by what follows the dot: C{fuse.glusterfs}."""
LOCAL_FUSE = frozenset("fuse fuseblk fuse.portal fuse.gvfsd-fuse fuse.fuse-overlayfs fuse.snapfuse fuse.lxcfs".split())
PSEUDO = frozenset({"swap", "none"})


@frozen
class Mount:
    """@ivar kind: of the file system."""

    point: str
    kind: str
    source: str

    @property
    def shared(self) -> bool:
        """Whether other machines may see the same."""
        return self.kind in SHARED_KINDS or (self.kind.startswith("fuse.") and self.kind not in LOCAL_FUSE)


def plain(text: str) -> str:
    """Without the escapes of such tables."""
    return OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def mounts(text: str) -> Sequence[Mount]:
    """@param text: what C{mountinfo} says."""
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        kind, source = tail.split(" ")[:2]
        found.append(Mount(plain(head.split(" ")[4]), kind, plain(source)))
    return found


def mount_of(path: str, found: Sequence[Mount]) -> Mount | None:
    """The one that a path is in: of two at one place, the upper, which came later."""
    inside = [each for each in found if is_in(path, each.point)]
    return max(enumerate(inside), key=lambda each: (len(each[1].point), each[0]))[1] if inside else None


def is_in(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(f"{point}/")


def expected(table: str) -> Sequence[Mount]:
    """@param table: what C{/etc/fstab} says."""
    found = []
    for line in table.splitlines():
        words = line.split()
        if len(words) >= 3 and not words[0].startswith("#") and words[2] not in PSEUDO:
            found.append(Mount(plain(words[1]).rstrip("/") or "/", words[2], plain(words[0])))
    return found


def missing(path: str, found: Sequence[Mount], table: str) -> Mount | None:
    """What C{/etc/fstab} wants at a path, or above, and is not there."""
    points = {each.point for each in found}
    wanted = [each for each in expected(table) if each.point != "/" and is_in(path, each.point)]
    return next((each for each in reversed(wanted) if each.point not in points), None)


def current() -> Sequence[Mount]:
    return mounts(MOUNTS.read_text("utf-8", "surrogateescape"))


def table() -> str:
    """C{/etc/fstab}; empty where there is none."""
    try:
        return TABLE.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def nearest(path: Path) -> Path:
    """The path, or what there is of it."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path
