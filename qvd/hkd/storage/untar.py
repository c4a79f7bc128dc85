# -*- test-case-name: tests.machines.test_storage_hostile -*-
"""
Unpacks a tar archive that nobody vouches for into a folder. Standard library only: this is the confined part.

Everything is done relative to open folders and follows no symbolic link. What the archive may hold is decided member by
member, and the first one that is wrong ends it all: what is there by then is thrown away by whoever started this.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from qvd.hkd.storage.confinement import IDS
from qvd.hkd.storage.streams import Bounded, Refused

MEMBERS = 2_000_000
"""A desktop has 50,000 to 300,000 files; each costs an inode and some hundred bytes of memory here."""
DEPTH = 128
"""Folders within folders: one descriptor is open for each."""
COPY = 1 << 20
LATEST = 1 << 33
"""The end of the times that file systems can tell (2242)."""
CAPABILITY = "security.capability"
USUAL = frozenset(
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("console", 5, 1),
        ("ptmx", 5, 2),
    ]
)
"""Devices below C{dev} that images bring along, and that each container gets anyway."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
END = tarfile.EOFHeaderError  # type: ignore[attr-defined]
"""What tarfile raises at the block of zeros that ends an archive."""


class StrictInfo(tarfile.TarInfo):
    """A header. C{tarfile} takes a damaged one, or none, for the end of the archive; here only the end is."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> StrictInfo:
        try:
            return super().fromtarfile(archive)
        except END:
            raise
        except tarfile.HeaderError as error:
            if archive.offset == 0:
                raise Refused("holds no tar archive") from None
            raise Refused(f"is damaged or incomplete: {error}") from None


def unpack(stream: Bounded, root: int, limit: int) -> tuple[int, int]:
    """Unpack all of it.

    @param root: descriptor of the folder.
    @param limit: bytes of all files together.
    @return: members and bytes.
    @raise Refused: it is damaged, or holds what it must not.
    """
    tree = Tree(root)
    try:
        members = total = 0
        for member in headers(stream):
            members, total = members + 1, total + member.size
            if members > MEMBERS:
                raise Refused(f"holds more than {MEMBERS} files")
            if total > limit:
                raise Refused(f"is too large: more than {limit >> 20} MiB when unpacked")
            tree.add(member)
        tree.finish()
        return members, total
    finally:
        tree.close()


def headers(stream: Bounded) -> Iterator[Member]:
    """The members, each to be read before the next one."""
    with tarfile.open(
        fileobj=stream,  # type: ignore[call-overload]
        mode="r|",
        bufsize=COPY,
        tarinfo=StrictInfo,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        for info in archive:
            yield Member(archive, info)
            # Else it would keep them all.
            archive.members = []


class Member:
    """One entry of the archive, checked as far as it can be by itself."""

    def __init__(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        self._archive = archive
        self.info = info
        self.size = info.size if info.isreg() else 0
        self.parts = self.split(info.name)
        if info.size < 0:
            raise self.refused("has less than no content")
        for number in (info.uid, info.gid):
            if not 0 <= number < IDS:
                raise self.refused(f"belongs to the id {number}; those of a container are 0 to {IDS - 1}")

    def refused(self, why: str) -> Refused:
        """@param why: the rest of a sentence that begins with the member's name."""
        shown = self.info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:200]
        return Refused(f"cannot be used: {shown!r} in it {why}")

    def split(self, name: str) -> tuple[str, ...]:
        """A path's parts below the root."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise self.refused("leads out of it")
        if len(parts) > DEPTH:
            raise self.refused(f"lies more than {DEPTH} folders deep")
        return parts

    def blocks(self) -> Iterator[bytes]:
        """The content of a file."""
        source = self._archive.extractfile(self.info)
        assert source is not None
        return iter(lambda: source.read(COPY), b"")

    def capability(self) -> bytes | None:
        """File capabilities, as C{tar --xattrs} and mmdebstrap write them down."""
        value = self.info.pax_headers.get(f"SCHILY.xattr.{CAPABILITY}")
        return value.encode("utf-8", "surrogateescape") if value is not None else None

    @property
    def times(self) -> tuple[int, int]:
        moment = min(max(int(self.info.mtime), 0), LATEST)
        return moment, moment

    @property
    def skipped(self) -> bool:
        """What lies in C{dev} is the container's own affair."""
        info = self.info
        if not (info.isdev() and len(self.parts) == 2 and self.parts[0] == "dev"):
            return False
        return info.isfifo() or (info.ischr() and (self.parts[1], info.devmajor, info.devminor) in USUAL)


class Tree:
    """The folder that is being filled.

    Folders get their times last, when nothing is put into them any more.
    """

    def __init__(self, root: int) -> None:
        self._open = [root]
        self._path: tuple[str, ...] = ()
        self._times: dict[tuple[str, ...], tuple[int, int]] = {}

    def add(self, member: Member) -> None:
        try:
            self._add(member)
        except (ValueError, OverflowError) as error:
            raise member.refused(f"has something odd in its header: {error}") from None

    def _add(self, member: Member) -> None:
        info = member.info
        if member.skipped:
            return
        if info.isdir():
            self._add_folder(member)
            return
        if not member.parts:
            raise member.refused("is no folder")
        folder, name = self._parent(member, member.parts), member.parts[-1]
        self._make_way(member, folder, name)
        self._maker(info)(member, folder, name)

    def _maker(self, info: tarfile.TarInfo) -> Callable[[Member, int, str], None]:
        if info.isreg():
            return self._add_file
        if info.issym():
            return self._add_symlink
        if info.islnk():
            return self._add_link
        return self._add_fifo if info.isfifo() else self._refuse

    def _refuse(self, member: Member, folder: int, name: str) -> None:
        kind = "a device" if member.info.isdev() else "of an unknown kind"
        raise member.refused(f"is {kind}")

    def _make_way(self, member: Member, folder: int, name: str) -> None:
        """What comes later counts, but nothing takes a folder's place."""
        with suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=folder)
            except (IsADirectoryError, PermissionError):
                raise member.refused("takes the place of a folder") from None

    def _add_folder(self, member: Member) -> None:
        folder = self._enter(member, member.parts)
        os.fchown(folder, member.info.uid, member.info.gid)
        os.fchmod(folder, member.info.mode & 0o7777)
        self._times[member.parts] = member.times

    def _add_file(self, member: Member, folder: int, name: str) -> None:
        info = member.info
        fd = os.open(name, NEW_FILE, 0o600, dir_fd=folder)
        try:
            for block in member.blocks():
                write_all(fd, block)
            os.fchown(fd, info.uid, info.gid)
            # Both are lost when the owner changes.
            os.fchmod(fd, info.mode & 0o7777)
            self._set_capability(member, fd)
            os.utime(fd, member.times)
        finally:
            os.close(fd)

    def _set_capability(self, member: Member, fd: int) -> None:
        value = member.capability()
        if value is not None:
            # NFS has no place for it: the program then has to be run by root.
            with suppress(OSError):
                os.setxattr(fd, CAPABILITY, value)

    def _add_symlink(self, member: Member, folder: int, name: str) -> None:
        os.symlink(member.info.linkname, name, dir_fd=folder)
        self._describe(member, folder, name)

    def _add_fifo(self, member: Member, folder: int, name: str) -> None:
        os.mkfifo(name, 0o600, dir_fd=folder)
        # No link: nobody else is here.
        os.chmod(name, member.info.mode & 0o777, dir_fd=folder)
        self._describe(member, folder, name)

    def _describe(self, member: Member, folder: int, name: str) -> None:
        os.chown(name, member.info.uid, member.info.gid, dir_fd=folder, follow_symlinks=False)
        os.utime(name, member.times, dir_fd=folder, follow_symlinks=False)

    def _add_link(self, member: Member, folder: int, name: str) -> None:
        target = member.split(member.info.linkname)
        source = os.dup(self._parent(member, target))
        try:
            if not target or stat.S_ISDIR(os.stat(target[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise member.refused("is a hard link to a folder")
            folder = self._parent(member, member.parts)
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            raise member.refused(f"is a hard link to {member.info.linkname!r}, which is not in it") from None
        finally:
            os.close(source)

    def _parent(self, member: Member, parts: Sequence[str]) -> int:
        return self._enter(member, tuple(parts[:-1]))

    def _enter(self, member: Member, parts: tuple[str, ...]) -> int:
        """Open a folder, made where there is none."""
        return self._go(parts, lambda part: self._open_or_make(member, part))

    def _go(self, parts: tuple[str, ...], step: Callable[[str], int]) -> int:
        """Folders on the way stay open: the next member is likely to be near.

        @param step: opens a folder in the one that was opened last.
        """
        same = 0
        while same < min(len(parts), len(self._path)) and parts[same] == self._path[same]:
            same += 1
        self._leave(same)
        for part in parts[same:]:
            self._open.append(step(part))
            self._path = (*self._path, part)
        return self._open[-1]

    def _open_or_make(self, member: Member, part: str) -> int:
        above = self._open[-1]
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=above)
        try:
            return os.open(part, FOLDER, dir_fd=above)
        except NotADirectoryError:
            raise member.refused(f"lies below {part!r}, which is a symbolic link or a file") from None

    def _leave(self, depth: int) -> None:
        """Close the folders below that depth."""
        while len(self._path) > depth:
            os.close(self._open.pop())
            self._path = self._path[:-1]

    def finish(self) -> None:
        """Set the folders' times."""
        for parts, times in self._times.items():
            os.utime(self._go(parts, lambda part: os.open(part, FOLDER, dir_fd=self._open[-1])), times)

    def close(self) -> None:
        """Let go of all but the root."""
        self._leave(0)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
