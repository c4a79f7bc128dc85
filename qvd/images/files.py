# -*- test-case-name: tests.unit.test_images_files -*-
"""The files of an image, wherever they are listed from, and the way along its symbolic links."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from typing import Protocol

from attrs import field, frozen

MOST_LINKS = 40
"""As the kernel has it."""
EXECUTABLE = 0o111


@frozen
class Entry:
    """A file of whatever kind.

    @ivar mode: its kind and its permissions, as C{st_mode} has them.
    @ivar size: bytes.
    @ivar target: of a symbolic link.
    """

    mode: int
    size: int = 0
    target: str = ""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_device(self) -> bool:
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    @property
    def is_program(self) -> bool:
        return stat.S_ISREG(self.mode) and bool(self.mode & EXECUTABLE)


class Files(Protocol):
    """What can be asked of an image. Paths have no slash at the beginning; the root's is empty."""

    def look(self, path: str) -> Entry | None:
        """The entry itself, though it be a link; its folder must be named without links."""

    def names(self, folder: str) -> Collection[str]:
        """What is in a folder that is named without links."""


@frozen
class ListedFiles:
    """L{Files} from a full list.

    @ivar entries: by path.
    """

    entries: Mapping[str, Entry]
    _children: dict[str, list[str]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for path in self.entries:
            folder, _, name = path.rpartition("/")
            self._children.setdefault(folder, []).append(name)

    def look(self, path: str) -> Entry | None:
        return self.entries.get(path) if path else Entry(stat.S_IFDIR | 0o755)

    def names(self, folder: str) -> Collection[str]:
        return self._children.get(folder, ())


def resolve(files: Files, path: str) -> tuple[str, Entry] | None:
    """Where a path leads, as inside the image, and what is there; L{None}: nowhere."""
    waiting = parts_of(path)[::-1]
    here: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = here[:-1]
            continue
        entry = files.look("/".join((*here, part)))
        if entry is None:
            return None
        if not entry.is_link:
            here.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            return None
        here = [] if entry.target.startswith("/") else here
        waiting.extend(parts_of(entry.target)[::-1])
    found = files.look("/".join(here))
    return None if found is None else ("/".join(here), found)


def parts_of(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def names_in(files: Files, folder: str) -> Collection[str]:
    """What is in a folder, which may be named with links; nothing where there is none."""
    found = resolve(files, folder)
    return () if found is None else files.names(found[0])
