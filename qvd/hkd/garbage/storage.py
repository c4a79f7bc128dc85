# -*- test-case-name: tests.integration.test_garbage -*-
"""L{IStorage}: the folders of the settings, each looked at by a thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from zope.interface import implementer

from qvd.hkd.files.folders import remove_tree
from qvd.hkd.garbage import listing, moving
from qvd.hkd.garbage.places import DOOMED, TRASH, claimed, opened_root
from qvd.hkd.garbage.worker import Beat, Worker
from qvd.interfaces import IStorage
from qvd.model.errors import PermanentError
from qvd.model.garbage import Key, Thing

T = TypeVar("T")
Lister = Callable[[listing.Place, Beat], Iterable[Thing]]
REMOVAL = 600.0
"""Seconds for one thing: its files may be many. Nobody waits for that but the run."""
IMAGES = "images"
"""Stands for the folder of images, of which nothing is marked: that folder carries no name."""


@frozen
class Folders:
    """Absolute paths."""

    homes: Path
    overlays: Path
    images: Path
    bases: Path

    def collected(self) -> Sequence[tuple[Path, Lister]]:
        """Those in which things are moved, and what lists them."""
        return (self.homes, listing.homes), (self.overlays, listing.layers), (self.bases, listing.bases)


@implementer(IStorage)
class Storage:
    """L{IStorage}. The names of the folders are known once they are identified.

    @param remove_tree: removes a folder, and what it may consist of on this file system.
    """

    def __init__(self, folders: Folders, worker: Worker, remove_tree: Callable[[Path], None] = remove_tree) -> None:
        self._folders = folders
        self._worker = worker
        self._remove_tree = remove_tree
        self._names: dict[Path, str] = {}

    async def identify(self, installation: str, claim: bool) -> Collection[str]:
        self._names = await self._worker.run(lambda beat: self._identify(installation, claim, beat))
        return list(self._names.values())

    def _identify(self, installation: str, claim: bool, beat: Beat) -> dict[Path, str]:
        names: dict[Path, str] = {}
        for path, _ in self._folders.collected():
            beat()
            try:
                with opened_root(path) as root:
                    name = claimed(root, path, installation, claim)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise PermanentError(f"{path}: {error.strerror}") from None
            if name is not None:
                names[path] = name
        return names

    async def things(self) -> Sequence[Thing]:
        return await self._worker.run(self._things)

    def _things(self, beat: Beat) -> list[Thing]:
        found: list[Thing] = []
        for path, lister in (*self._folders.collected(), (self._folders.images, listing.images)):
            name = IMAGES if path == self._folders.images else self._names.get(path, str(path))
            try:
                with opened_root(path) as fd:
                    found += lister(listing.Place(name, fd, listing.mounts_of(path)), beat)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise PermanentError(f"{path}: {error.strerror}") from None
        return found

    async def size(self, thing: Thing) -> int | None:
        root = self._root(thing.key)
        return await self._worker.run(lambda beat: moving.size_of(root, thing, beat))

    def where(self, key: Key) -> str:
        """For people: the absolute path."""
        return str(self._root(key) / key.path)

    async def trash(self, thing: Thing, date: str) -> str:
        root = self._root(thing.key)
        return await self._worker.run(lambda beat: moving.set_aside(root, thing, TRASH, date, beat))

    async def doom(self, thing: Thing, date: str) -> str:
        root = self._root(thing.key)
        return await self._worker.run(lambda beat: moving.set_aside(root, thing, DOOMED, date, beat))

    async def put_back(self, thing: Thing, path: str) -> None:
        root = self._root(thing.key)
        await self._worker.run(lambda beat: moving.restore(root, thing, path))

    async def doomed(self) -> Sequence[Key]:
        return await self._worker.run(self._doomed)

    def _doomed(self, beat: Beat) -> list[Key]:
        return [Key(name, path) for root, name in self._names.items() for path in moving.doomed(root)]

    async def remove(self, key: Key) -> None:
        root = self._root(key)
        await self._worker.run(lambda beat: moving.remove(root, key.path, self._remove_tree), REMOVAL)

    def _root(self, key: Key) -> Path:
        if key.storage == IMAGES:
            return self._folders.images
        paths = {name: path for path, name in self._names.items()}
        return paths.get(key.storage) or Path(key.storage)
