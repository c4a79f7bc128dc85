# -*- test-case-name: tests.machines.test_storage_trouble -*-
"""Root file systems of containers, as drivers ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.files.folders import make_folders, numbered
from qvd.hkd.files.threads import IThreadsReactor, StorageThreads
from qvd.hkd.storage import names
from qvd.hkd.storage.layers import ILayers
from qvd.hkd.storage.layout import StorageLayout
from qvd.hkd.storage.trouble import no_answer, of_error
from qvd.hkd.storage.unpacks import IUnpackReactor, Unpacks
from qvd.interfaces import IRoots
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Persistence, VMSpec
from qvd.model.rootplan import RootPlan

SECONDS = 20.0
"""For one look or one change: to remove a large layer takes the longest. The runner gives a clean-up 30."""
THREADS = 8
PASSABLE = 0o711
"""The container's root has to find its way to where its root file system appears."""
T = TypeVar("T")


class IRootsReactor(IUnpackReactor, IThreadsReactor):
    """What this needs of a reactor."""


@implementer(IRoots)
class Roots:
    """Those of one node."""

    log = Logger()

    def __init__(self, reactor: IRootsReactor, layout: StorageLayout, layers: ILayers) -> None:
        self._layout = layout
        self._layers = layers
        self._threads = StorageThreads(reactor, THREADS, SECONDS)
        self._unpacks = Unpacks(reactor, layout)
        self._layer_place = f"The storage of writable layers ({layout.overlays})"
        self._image_place = f"The storage of images ({layout.images}) or of unpacked images ({layout.bases})"

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        progress("Checking the image")
        check_name(spec)
        if await self._find(spec) is None:
            base = await self._unpacks.provide(spec.image, spec.checksum, progress)
            self.log.info("the image {image} is unpacked: {base}", image=spec.image, base=base)

    async def lay_out(self, spec: VMSpec) -> RootPlan:
        check_name(spec)
        base = await self._find(spec)
        if base is None:
            raise TransientError(f"The image {spec.image} was changed just now; start VM {spec.vm_id} again")
        return await self._blocking(self._layer_place, spec.vm_id, lambda: self._lay_out(spec, base))

    async def clean(self, vm_id: VMId) -> None:
        await self._blocking(self._layer_place, vm_id, lambda: self._clean(vm_id))

    async def left(self) -> Collection[VMId]:
        return await self._blocking(self._layer_place, "left", self._left)

    def close(self) -> None:
        """Unpack nothing any more."""
        self._unpacks.close()

    async def _find(self, spec: VMSpec) -> Path | None:
        look = ("image", spec.image)
        return await self._blocking(self._image_place, look, lambda: find_base(self._layout, spec))

    async def _blocking(self, place: str, whose: Hashable, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(whose, work)
        except TimeoutError:
            raise no_answer(place, SECONDS) from None
        except OSError as error:
            raise of_error(place, error) from error

    def _lay_out(self, spec: VMSpec, base: Path) -> RootPlan:
        self._clean(spec.vm_id)
        folder = self._layout.run_of(spec.vm_id)
        make_folders(folder, PASSABLE)
        merged = folder / "merged"
        merged.mkdir(mode=0o755)
        layer = self._kept(spec, base) if spec.persistence is Persistence.EVERYTHING else folder
        return self._layers.make(base / names.ROOT, layer, merged)

    def _kept(self, spec: VMSpec, base: Path) -> Path:
        """The layer that persists: it belongs to the content of an image, whatever that is called."""
        marker = (base / names.MARKER).read_text("utf-8")
        layer = self._layout.kept_of(spec.vm_id) / str(json.loads(marker)["sha256"])[:KEY]
        make_folders(layer, PASSABLE)
        # For people: what this was made for.
        (layer / names.MARKER).write_text(marker, "utf-8")
        return layer

    def _clean(self, vm_id: VMId) -> None:
        folder = self._layout.run_of(vm_id)
        self._layers.remove(folder)
        # Another node's are not ours.
        with suppress(OSError):
            folder.parent.rmdir()

    def _left(self) -> Collection[VMId]:
        return {vm_id for vm_id in numbered(self._layout.overlays) if self._layout.run_of(vm_id).is_dir()}


KEY = 32
"""Hexadecimal digits of a checksum in the name of a layer that persists."""


def check_name(spec: VMSpec) -> None:
    """@raise PermanentError: there is no image of that name."""
    if not spec.image:
        raise PermanentError(f"VM {spec.vm_id} has no disk image")
    if "/" in spec.image or "\0" in spec.image or spec.image in (".", ".."):
        raise PermanentError(f"{spec.image!r} is not the name of an image")


def find_base(layout: StorageLayout, spec: VMSpec) -> Path | None:
    """Where an image was unpacked, if it was."""
    try:
        status = None if spec.checksum else (layout.images / spec.image).lstat()
    except FileNotFoundError:
        if not layout.images.is_dir():
            raise
        raise PermanentError(f"The image {spec.image} does not exist on this node") from None
    base = layout.bases / names.base_name(spec.image, spec.checksum, status, subvolume=layout.subvolumes)
    return base if base.is_dir() else None
