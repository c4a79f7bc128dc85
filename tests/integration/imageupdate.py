"""
An image that is replaced by a newer one, and put back, under a VM that runs: for whichever driver makes the images.

How images are made is what a driver's test adds. Their guests write the name of their image to the file C{image} in
their home, a line at each start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from qvd.db.images import Images
from qvd.db.pool import Pool
from qvd.db.vms import VMs
from qvd.model.expiry import ExpiryTerms
from qvd.model.ids import DIId, VMId
from qvd.model.placement import Weights
from tests.integration.farm import Farm, eventually

CAUSE = "test of an image update"
COLUMNS = ("vm_state", "current_di_id", "run", "generation", "since", "vm_expiration_soft", "vm_expiration_hard")
"""Of a VM's row, that a change of its image leaves as they are."""
MakeImage = Callable[[str], str]
"""Puts an image of that name into the storage, and returns its path below C{path.storage.images}."""


class ImageUpdate:
    """The first VM of a farm, and the images of its OSF.

    @param home: of that VM, on the host.
    """

    def __init__(self, farm: Farm, pool: Pool, make_image: MakeImage, home: Path) -> None:
        self.farm = farm
        self.images = Images(pool)
        self.vms = VMs(pool, Weights(), Random(1).random)
        self._make_image = make_image
        self._home = home
        self.vm_id = VMId(farm.credentials["vm_id"])

    async def register(self, name: str) -> DIId:
        """A new image, ready but not published, seen by the node."""
        path = await deferToThread(self._make_image, name)
        (row,) = self.farm.rows(
            "INSERT INTO dis (tenant_id, osf_id, path, version, state)"
            " SELECT tenant_id, osf_id, %s, %s, 'ready' FROM vms WHERE id = %s RETURNING id",
            path,
            name,
            self.vm_id,
        )
        seen = "SELECT 1 FROM host_images WHERE di_id = %s"
        await self.until(lambda: self.farm.rows(seen, row["id"]), "the node sees the image")
        return DIId(row["id"])

    async def publish(self, di_id: DIId) -> None:
        """With the tag that the VM has."""
        await self.images.publish(di_id, ["default"], ExpiryTerms(), CAUSE)

    async def retag(self, di_id: DIId) -> None:
        await self.images.set_tag(di_id, "default", ExpiryTerms(), CAUSE)

    async def use(self) -> int:
        """Connect a client and let it go; return the HTTP status that it got."""

        def connect() -> int:
            with self.farm.client() as wire:
                return wire.connect(self.vm_id).head.status

        return await deferToThread(connect)

    async def stop(self) -> None:
        await self.vms.order_stop(self.vm_id, CAUSE)
        await self.until(lambda: self.row()["vm_state"] == "stopped", "the VM has stopped")

    def row(self) -> dict[str, Any]:
        return self.farm.vm(self.vm_id)

    def seen(self) -> list[str]:
        """The images that the VM has run, by its own account."""
        return (self._home / "image").read_text().split()

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        return await deferToThread(eventually, condition, what)


@asynccontextmanager
async def image_update(farm: Farm, make_image: MakeImage, home: Path) -> AsyncIterator[ImageUpdate]:
    pool = Pool(reactor, farm.installation.admin_dsn, 2, 10.0, Random(1))
    await pool.start()
    try:
        yield ImageUpdate(farm, pool, make_image, home)
    finally:
        await pool.stop()


async def update_and_roll_back(update: ImageUpdate) -> None:
    """The running VM is untouched, its next start has the new image, and the one after that the old one again."""
    old, new = await update.register("old"), await update.register("new")
    await update.publish(old)
    assert await update.use() == 101
    assert update.seen() == ["old"]
    await changed_while_it_runs(update, update.publish(new))
    await update.stop()
    assert await update.use() == 101
    assert update.seen() == ["old", "new"]
    await changed_while_it_runs(update, update.retag(old))
    await update.stop()
    assert await update.use() == 101
    assert update.seen() == ["old", "new", "old"]
    assert update.row()["current_di_id"] == old


async def changed_while_it_runs(update: ImageUpdate, change: Any) -> None:
    """The same run goes on, with the same image, and serves clients."""
    before = update.row()
    await change
    assert await update.use() == 101
    after = update.row()
    for column in COLUMNS:
        assert after[column] == before[column], column
    assert after["vm_state"] == "running"
