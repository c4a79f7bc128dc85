# -*- test-case-name: tests.unit.test_images_tarlisting -*-
"""What is in an archive, read as a stream and never unpacked."""

from __future__ import annotations

import shlex
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qvd.images.commands import BuildError
from qvd.images.files import Entry, parts_of
from qvd.images.needs import Finding
from qvd.model.imagetype import ImageType

COMPRESSORS = {
    ".zst": ("zstd", "-q", "-T0", "-3"),
    ".xz": ("xz", "-T0"),
    ".bz2": ("bzip2",),
    ".gz": ("gzip", "-n"),
}
TAR_ENDINGS = (".tar", *(f".tar{ending}" for ending in COMPRESSORS))
DECOMPRESSORS = {
    ImageType.ZSTD: ("zstd", "-q", "-dc"),
    ImageType.XZ: ("xz", "-dc"),
    ImageType.BZIP2: ("bzip2", "-dc"),
    ImageType.GZIP: ("gzip", "-dc"),
}
KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
FOLDER = Entry(stat.S_IFDIR | 0o755)
USUAL_DEVICES = frozenset(["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"])
"""Of C{dev}; a container gets its own, so a node leaves these away."""
MOST_MEMBERS = 2_000_000
MOST_TOLD = 5
"""Of one kind of bad members."""
LONGEST_READ = 1 << 20
"""Bytes of a header that may be read at once: longer ones only fill the memory."""
CHUNK = 1 << 20


def compressor(name: str) -> Sequence[str]:
    """The program that a file name asks for; none for a plain one."""
    return next((words for ending, words in COMPRESSORS.items() if name.endswith(ending)), ())


def unpacking(path: Path) -> str:
    """The beginning of a shell's command that unpacks an archive as root."""
    return f"tar -x --numeric-owner --xattrs --xattrs-include='*' -f {shlex.quote(str(path.absolute()))}"


class StrictInfo(tarfile.TarInfo):
    """A header. L{tarfile} takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> StrictInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class Forward:
    """A file that can be read in one direction, as much of one as L{tarfile} wants."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if size > LONGEST_READ:
            raise tarfile.ReadError("a header without measure")
        data = self._file.read(size)
        self._at += len(data)
        return data

    def seek(self, to: int) -> None:
        while self._at < to:
            data = self._file.read(min(CHUNK, to - self._at))
            if not data:
                raise tarfile.ReadError("unexpected end of data")
            self._at += len(data)


def list_tar(path: Path, kind: ImageType) -> tuple[dict[str, Entry], list[Finding]]:
    """All entries by path, and what is wrong with the archive itself.

    @raise BuildError: it is damaged, or too much.
    """
    with decompressed(path, kind) as stream:
        try:
            return collect(stream)
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise BuildError(f"it is no sound archive ({error})") from None


def collect(stream: IO[bytes]) -> tuple[dict[str, Entry], list[Finding]]:
    """As L{list_tar}, of the plain archive.

    @raise tarfile.TarError: it is damaged, or too much.
    """
    entries: dict[str, Entry] = {}
    bad: dict[str, list[str]] = {}
    for member in members(stream):
        parts = parts_of(member.name)
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        why = hostility(member) or ("files behind symbolic links" if any_link(entries, above) else None)
        if why is not None:
            bad.setdefault(why, []).append(member.name)
        for folder in above:
            entries.setdefault(folder, FOLDER)
        entries["/".join(parts)] = entry_of(member, entries)
        if len(entries) > MOST_MEMBERS:
            raise tarfile.ReadError(f"more than {MOST_MEMBERS} files")
    entries.pop("", None)
    return entries, [told(why, names) for why, names in bad.items()]


def members(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """One after the other. L{tarfile} keeps those that it has read, which is a second copy of everything."""
    with tarfile.open(fileobj=Forward(stream), mode="r:", tarinfo=StrictInfo) as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members.clear()
            yield member


@contextmanager
def decompressed(path: Path, kind: ImageType) -> Iterator[IO[bytes]]:
    """The archive's own bytes.

    @raise BuildError: the program for it is missing, or finds the data damaged.
    """
    with path.open("rb") as file:
        words = DECOMPRESSORS.get(kind)
        if words is None:
            yield file
            return
        try:
            process = subprocess.Popen(words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            raise BuildError(f"The program {words[0]} is missing: install it") from None
        with process:
            assert process.stdout is not None
            try:
                yield process.stdout
                while process.stdout.read(CHUNK):
                    # After the end of the archive; the check sums come last.
                    pass
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        raise BuildError(f"it is damaged ({words[0]} cannot decompress it)")


def entry_of(member: tarfile.TarInfo, entries: dict[str, Entry]) -> Entry:
    if member.islnk():
        # The same file under another name.
        return entries.get("/".join(parts_of(member.linkname)), Entry(stat.S_IFREG | member.mode))
    return Entry(KINDS.get(member.type, stat.S_IFREG) | stat.S_IMODE(member.mode), member.size, member.linkname)


def hostility(member: tarfile.TarInfo) -> str | None:
    """Why a member does not belong into an image, if it does not."""
    parts = parts_of(member.name)
    if member.isblk() or (member.ischr() and not (parts[:-1] == ["dev"] and parts[-1] in USUAL_DEVICES)):
        return "device nodes"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "paths that lead out of the image"
    if member.islnk() and (member.linkname.startswith("/") or ".." in member.linkname.split("/")):
        return "links to files outside of the image"
    return None


def any_link(entries: dict[str, Entry], paths: Sequence[str]) -> bool:
    return any(path in entries and entries[path].is_link for path in paths)


def told(why: str, names: Sequence[str]) -> Finding:
    """Some names of many."""
    some = ", ".join(ascii(name)[1:-1] for name in names[:MOST_TOLD])
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return Finding(f"it has {why} ({some}{more})", f"pack it without: a node refuses {why}")
