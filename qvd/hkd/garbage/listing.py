# -*- test-case-name: tests.unit.test_garbage_listing -*-
"""
What is in the folders of the storage. It all blocks.

Only what has a name that QVD gives is a thing at all: whatever else an administrator keeps there is not seen.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from attrs import evolve, frozen

from qvd.hkd.files.folders import opened
from qvd.hkd.garbage.places import MOUNTS, TRASH, mounts_below
from qvd.hkd.garbage.worker import Beat
from qvd.model.garbage import Key, Kind, Thing
from qvd.model.ids import VMId

NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
HALF_MADE = re.compile(r"\.[0-9a-f]{16}", re.ASCII)
"""What L{qvd.hkd.files.folders.make_folder} calls a folder that is not ready."""
FOLDERS, FILES = ("",), (".lock", ".qcow2", ".qcow2.lock")
"""What a home may be made of: its name and one of these."""
PERSISTENT, NODE = "persistent", "node-"
LOCK, DISK = ".lock", ".qcow2"
UNPACKING = re.compile(r"\.(?P<base>.+)\.[0-9a-f]{16}\.new", re.ASCII)
"""A folder into which an image is being unpacked. Meanwhile C{.BASE.lock} is locked."""
MARKER = "image.json"
"""In an unpacked image, says what it was made of."""
LINK = "it is a symbolic link where a folder or a file was expected"
MOUNTED = "something is mounted in it"


@frozen
class Place:
    """One folder of the storage, as it was found.

    @ivar fd: opened.
    @ivar mounts: what is mounted below it, relative to it.
    """

    storage: str
    fd: int
    mounts: tuple[str, ...]

    def thing(self, kind: Kind, path: str, vm_id: VMId | None = None, trouble: str = "") -> Thing:
        """A thing in this folder."""
        below = any(mount == path or mount.startswith(f"{path}/") for mount in self.mounts)
        return Thing(Key(self.storage, path), kind, vm_id, trouble=trouble or (MOUNTED if below else ""))


def mounts_of(path: Path) -> tuple[str, ...]:
    """What is mounted below a folder just now."""
    return tuple(mounts_below(Path(os.path.realpath(path)), MOUNTS.read_text(errors="surrogateescape")))


def entries(fd: int, beat: Beat) -> Iterator[os.DirEntry[str]]:
    """A folder's entries, in order of name."""
    with os.scandir(fd) as found:
        listed = sorted(found, key=lambda entry: entry.name)
    for entry in listed:
        beat()
        yield entry


def folders(fd: int, beat: Beat) -> Iterator[str]:
    """Names of the folders in a folder that are a number. Links to folders are none."""
    for entry in entries(fd, beat):
        if NUMBER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield entry.name


def homes(place: Place, beat: Beat) -> Iterator[Thing]:
    """C{TENANT/VM}, with what belongs to it, and what was not finished."""
    for tenant in folders(place.fd, beat):
        with opened(tenant, place.fd) as fd:
            yield from homes_of(place, tenant, list(entries(fd, beat)))
    yield from trash(place, beat)


def homes_of(place: Place, tenant: str, found: Iterable[os.DirEntry[str]]) -> Iterator[Thing]:
    troubles: dict[str, str] = {}
    for entry in found:
        number, suffix = split(entry.name)
        if number:
            wrong = trouble(entry, suffix in FOLDERS)
            troubles[number] = troubles.get(number) or wrong
        elif HALF_MADE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield place.thing(Kind.UNFINISHED, f"{tenant}/{entry.name}")
    for number, wrong in troubles.items():
        yield place.thing(Kind.HOME, f"{tenant}/{number}", VMId(int(number)), trouble=wrong)


def split(name: str) -> tuple[str, str]:
    """The number of the VM that an entry belongs to, and the rest of its name; both empty: it belongs to none."""
    number, dot, rest = name.partition(".")
    suffix = dot + rest
    if NUMBER.fullmatch(number) and suffix in (*FOLDERS, *FILES):
        return number, suffix
    return "", ""


def trouble(entry: os.DirEntry[str], folder: bool) -> str:
    """Why an entry must be left alone."""
    if entry.is_symlink():
        return LINK
    right = entry.is_dir(follow_symlinks=False) if folder else entry.is_file(follow_symlinks=False)
    return "" if right else f"it is no {'folder' if folder else 'file'}"


def layers(place: Place, beat: Beat) -> Iterator[Thing]:
    """C{VM} or C{VM/node-NODE}, thrown away at its stop, and C{persistent/VM} or C{persistent/VM-KEY.qcow2}."""
    for entry in entries(place.fd, beat):
        if NUMBER.fullmatch(entry.name):
            yield from layers_of(place, entry, beat)
        elif entry.name == PERSISTENT and entry.is_dir(follow_symlinks=False):
            with opened(PERSISTENT, place.fd) as fd:
                yield from persistent_layers(place, fd, beat)
    yield from trash(place, beat)


def layers_of(place: Place, entry: os.DirEntry[str], beat: Beat) -> Iterator[Thing]:
    """Those of one VM: one for each node that has made some, or what no node has put its name to."""
    vm_id, wrong = VMId(int(entry.name)), trouble(entry, True)
    names: list[str] = []
    if not wrong:
        with opened(entry.name, place.fd) as fd:
            names = [below.name for below in entries(fd, beat) if below.name.startswith(NODE)]
    if not names:
        yield place.thing(Kind.LAYER, entry.name, vm_id, trouble=wrong)
    for name in names:
        layer = place.thing(Kind.LAYER, f"{entry.name}/{name}", vm_id)
        yield evolve(layer, node=unquote(name.removeprefix(NODE)))


def persistent_layers(place: Place, folder: int, beat: Beat) -> Iterator[Thing]:
    for entry in entries(folder, beat):
        number, key, _ = entry.name.partition("-")
        if NUMBER.fullmatch(number) and (entry.name == number or entry.name.endswith(DISK)):
            wrong = trouble(entry, not key)
            yield place.thing(Kind.PERSISTENT, f"{PERSISTENT}/{entry.name}", VMId(int(number)), trouble=wrong)


def images(place: Place, beat: Beat) -> Iterator[Thing]:
    """Files and folders that may be registered. Hidden ones are not ready."""
    for entry in entries(place.fd, beat):
        if not entry.name.startswith("."):
            yield evolve(place.thing(Kind.IMAGE, entry.name), image=entry.name)


def bases(place: Place, beat: Beat) -> Iterator[Thing]:
    """Unpacked images, each with a file that says what it was made of, and what was not finished."""
    for entry in entries(place.fd, beat):
        if UNPACKING.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield place.thing(Kind.UNFINISHED, entry.name)
        elif "@" in entry.name and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            with opened(entry.name, place.fd) as fd:
                image, checksum = source_of(fd)
            if image:
                yield evolve(place.thing(Kind.BASE, entry.name), image=image, checksum=checksum)
    yield from trash(place, beat)


def source_of(base: int) -> tuple[str, str]:
    """The image that a base was made of, and that file's checksum; both empty: it does not say."""
    try:
        fd = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
        with os.fdopen(fd, "rb") as file:
            document = json.loads(file.read(65536))
        return str(document["image"]), str(document.get("sha256") or "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def trash(place: Place, beat: Beat) -> Iterator[Thing]:
    """What earlier runs have moved to the trash."""
    try:
        with opened(TRASH, place.fd) as fd:
            for entry in entries(fd, beat):
                if entry.is_dir(follow_symlinks=False):
                    yield place.thing(Kind.TRASH, f"{TRASH}/{entry.name}")
    except FileNotFoundError:
        pass
