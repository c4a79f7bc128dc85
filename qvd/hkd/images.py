# -*- test-case-name: tests.unit.test_hkd_images -*-
"""
Tells the farm which disk images this node finds in its storage.

The storage is shared, but it may not be mounted here, or a copy may be missing. A look into it may take for ever where
a file server hangs, so it happens in a thread, of which there is one at a time; and what cannot be read in time is not
there.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.periodic import Periodic, observe
from qvd.interfaces import IBells, IHostImages
from qvd.model.records import Lease
from qvd.protocols.channels import images_changed

Names = Collection[str]
Lister = Callable[[], Awaitable[Names]]
"""Names what is in the storage of images."""


class ImageFolder:
    """Lists a folder off the reactor.

    @param in_thread: runs a function in a thread.
    @param seconds: for one look.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        folder: Path,
        in_thread: Callable[[Callable[[], Names]], Deferred[Names]],
        seconds: float,
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._in_thread = in_thread
        self._seconds = seconds
        self._looking: Deferred[None] | None = None
        self._names: Names = ()
        self._trouble = ""

    async def list(self) -> Names:
        """The names in the folder; none when it cannot be read, or not in time."""
        done = observe(self._looking or self._begin())
        done.addTimeout(self._seconds, self._clock)
        try:
            await done
        except TimeoutError:
            self._say(f"it does not answer in {self._seconds:g} s")
            return ()
        return self._names

    def _begin(self) -> Deferred[None]:
        looking: Deferred[None] = Deferred()
        self._looking = looking
        found = self._in_thread(self._read).addCallbacks(self._found, self._failed)
        found.addCallback(lambda _: looking.callback(None))
        return looking

    def _read(self) -> Names:
        return frozenset(os.listdir(self._folder))

    def _found(self, names: Names) -> None:
        self._looking = None
        self._names = names
        self._say("")

    def _failed(self, failure: Failure) -> None:
        self._looking = None
        self._names = ()
        self._say(getattr(failure.value, "strerror", None) or str(failure.value))

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self.log.error("no disk image is seen in {folder}: {trouble}", folder=str(self._folder), trouble=trouble)
        self._trouble = trouble


@frozen
class ImageParts:
    """What the watch of one epoch is made of.

    @ivar seconds: between two looks.
    """

    images: IHostImages
    names: Lister
    seconds: float


class ImageWatch:
    """Looks at start, when an image is registered or goes, and every so often. Writes only what has changed."""

    log = Logger()

    def __init__(self, clock: IReactorTime, lease: Lease, bells: IBells, parts: ImageParts) -> None:
        self._lease = lease
        self._bells = bells
        self._parts = parts
        self._said = False
        self._looks = Periodic(clock, parts.seconds, self.look, "looking for disk images")

    def start(self) -> None:
        self._looks.heed(self._bells, images_changed())
        self._looks.start()

    async def stop(self) -> None:
        await self._looks.stop()

    async def look(self) -> None:
        """Once. To be awaited before the node takes orders, so that nothing is placed there for want of knowledge."""
        names = await self._parts.names()
        known = await self._parts.images.registered(self._lease)
        seen = [image.di_id for image in known if image.path in names]
        before = [image.di_id for image in known if image.seen]
        if self._said and seen == before:
            return
        await self._parts.images.publish(self._lease, seen)
        self._said = True
        self.log.info("{seen} of {all} disk images are here", seen=len(seen), all=len(known))
