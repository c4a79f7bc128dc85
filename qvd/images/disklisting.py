# -*- test-case-name: tests.unit.test_images_disklisting -*-
"""
The files on a virtual machine's disk, looked up one by one by C{debugfs}: nothing is mounted, the kernel never sees a
file system that nobody vouches for.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

from qvd.images.commands import BuildError
from qvd.images.disk import HEAD, is_ext, partitions
from qvd.images.files import Entry

ASKABLE = re.compile(r"[A-Za-z0-9_./+@:-]*")
"""Names that are the same in C{debugfs}'s language. Others, which a link of the image may have, are not looked up."""
TARGET = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)
SECONDS = 60
LONGEST_TARGET = 4096


@contextmanager
def raw_disk(path: Path, folder: Path) -> Iterator[Path]:
    """The plain bytes of a qcow2 disk, in a sparse file.

    @raise BuildError: it cannot be read.
    """
    raw = folder / "disk"
    ask("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw))
    try:
        yield raw
    finally:
        raw.unlink()


def head_of(raw: Path) -> bytes:
    with raw.open("rb") as file:
        return file.read(HEAD)


def system_on(raw: Path) -> DiskFiles | None:
    """The file system that looks like a Linux root; L{None}: none that can be looked into."""
    for offset in partitions(head_of(raw)):
        with raw.open("rb") as file:
            file.seek(offset)
            if not is_ext(file.read(2048)):
                continue
        files = DiskFiles(f"{raw}?offset={offset}")
        if files.look("etc") is not None:
            return files
    return None


@frozen
class DiskFiles:
    """L{qvd.images.files.Files} of an ext file system.

    @ivar device: as C{debugfs} names it.
    """

    device: str
    _folders: dict[str, Mapping[str, Entry]] = field(factory=dict, init=False)

    def look(self, path: str) -> Entry | None:
        if not path:
            return Entry(stat.S_IFDIR | 0o755)
        if not ASKABLE.fullmatch(path):
            return None
        folder, _, name = path.rpartition("/")
        entry = self._folder(folder).get(name)
        if entry is None or not entry.is_link:
            return entry
        return Entry(entry.mode, entry.size, self._target(path))

    def names(self, folder: str) -> Collection[str]:
        return self._folder(folder).keys() if ASKABLE.fullmatch(folder) else ()

    def _folder(self, folder: str) -> Mapping[str, Entry]:
        known = self._folders.get(folder)
        if known is None:
            known = dict(parse_folder(self._ask(f"ls -p /{folder}")))
            self._folders[folder] = known
        return known

    def _target(self, path: str) -> str:
        fast = TARGET.search(self._ask(f"stat /{path}"))
        return fast[1] if fast else self._ask(f"cat /{path}")[:LONGEST_TARGET]

    def _ask(self, command: str) -> str:
        return ask("debugfs", "-c", "-R", command, self.device)


def parse_folder(text: str) -> Iterator[tuple[str, Entry]]:
    """Lines of C{/inode/mode/uid/gid/name/size/}, the size of files only."""
    for line in text.splitlines():
        parts = line.split("/")
        if len(parts) >= 7 and parts[2].isdigit() and parts[5] not in (".", ".."):
            yield parts[5], Entry(int(parts[2], 8), int(parts[6]) if parts[6].isdigit() else 0)


def ask(*words: str) -> str:
    """What a program prints.

    @raise BuildError: it is missing, fails, or does not end.
    """
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(f"The program {words[0]} is missing: install it") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{words[0]} did not end within {SECONDS} s") from None
    if done.returncode != 0:
        raise BuildError(f"{words[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
