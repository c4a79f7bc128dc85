"""The disk images that are registered, and those that a node finds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zope.interface import implementer

from qvd.interfaces import IHostImages
from qvd.model.ids import DIId
from qvd.model.records import Lease, RegisteredImage
from tests.fakes.conduct import Conduct


@implementer(IHostImages)
class FakeImages:
    """L{IHostImages} of one node.

    @ivar paths: by image, where it should be.
    @ivar here: what is in the storage.
    @ivar published: what the node has said that it sees; L{None}: nothing yet.
    """

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.paths: dict[DIId, str] = {}
        self.here: set[str] = set()
        self.published: Collection[DIId] | None = None

    async def names(self) -> Collection[str]:
        await self.conduct.before("names")
        return frozenset(self.here)

    async def registered(self, lease: Lease) -> Sequence[RegisteredImage]:
        await self.conduct.before("registered")
        known = self.published or ()
        return [RegisteredImage(di_id, path, di_id in known) for di_id, path in self.paths.items()]

    async def publish(self, lease: Lease, seen: Collection[DIId]) -> None:
        await self.conduct.before("publish_images", list(seen))
        self.published = list(seen)
