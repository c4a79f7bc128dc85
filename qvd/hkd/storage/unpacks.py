# -*- test-case-name: tests.unit.test_storage_unpacks -*-
"""
The unpacking programs of this node (L{qvd.hkd.storage.unpack_launch}), one for each image that somebody wants.

All who want an image share its program. It goes on when none of them waits any more: the next start is to find the
image. One that says nothing for a while is killed; where even that does not end it, its storage hangs, and nobody else
is kept waiting for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.storage import unpack_launch
from qvd.hkd.storage.layout import StorageLayout
from qvd.hkd.storage.trouble import no_answer, trouble
from qvd.model.errors import DriverError, PermanentError, TransientError

LAUNCH = str(Path(unpack_launch.__file__).resolve())
SILENCE = 60.0
"""Seconds: each per cent of the file is told, and the longest silence is while the kernel writes the last of it."""
PATIENCE = 1800.0
"""Seconds to wait for another node that unpacks the same image."""
LIMIT = 1 << 16
"""Bytes of an unfinished line, and of what is kept of the error output."""
Progress = Callable[[str], None]


class IUnpackReactor(IReactorProcess, IReactorTime):
    """What this needs of a reactor."""


class Unpack(ProcessProtocol):
    """One program at work.

    @ivar stuck: it was killed and has not ended yet.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, image: str, place: str, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._image = image
        self._place = place
        self._ended = ended
        self._waiting: dict[Deferred[str], Progress] = {}
        self._rest = b""
        self._errors = b""
        self._answer: dict[str, Any] = {}
        self._silence: IDelayedCall | None = None
        self.stuck = False

    def join(self, progress: Progress) -> Deferred[str]:
        """Fires with the base's name. Who cancels it waits no more; the program goes on."""
        done: Deferred[str] = Deferred(lambda gone: self._waiting.pop(gone, None) and None)
        self._waiting[done] = progress
        return done

    def begin(self, plan: dict[str, Any]) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(plan).encode() + b"\n")
        self._silence = self._clock.callLater(SILENCE, self._give_up)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:LIMIT]
        for line in lines:
            self._hear(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-LIMIT:]

    def processEnded(self, reason: Failure) -> None:
        self._be_silent()
        self._ended()
        if "base" in self._answer:
            self._tell_all(lambda done: done.callback(self._answer["base"]))
            return
        self._fail(self._error())

    def kill(self) -> None:
        """End it at once."""
        transport: IProcessTransport | None = self.transport
        try:
            if transport is not None:
                transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    def _hear(self, said: dict[str, Any]) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.reset(SILENCE)
        if "percent" in said:
            self._report(f"Unpacking the image, {said['percent']} %")
        elif "waiting" in said:
            self._report("Waiting for another node, which unpacks the image")
        else:
            self._answer = said

    def _report(self, text: str) -> None:
        for progress in tuple(self._waiting.values()):
            progress(text)

    def _give_up(self) -> None:
        self.stuck = True
        self.log.error("unpacking {image}: nothing is heard of it, so it is killed", image=self._image)
        self.kill()
        self._fail(no_answer(self._place, SILENCE))

    def _be_silent(self) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.cancel()

    def _error(self) -> DriverError:
        match self._answer:
            case {"refused": text}:
                return PermanentError(f"The image {self._image} {text}")
            case {"errno": number, "error": text}:
                return trouble(self._place, number, f"{text} (the image {self._image} could not be unpacked)")
            case _:
                self.log.error(
                    "unpacking {image}: {said}", image=self._image, said=self._errors.decode("utf-8", "replace")
                )
                return TransientError(f"The program that unpacks the image {self._image} has ended unexpectedly")

    def _fail(self, error: DriverError) -> None:
        self._tell_all(lambda done: done.errback(error))

    def _tell_all(self, tell: Callable[[Deferred[str]], None]) -> None:
        waiting, self._waiting = self._waiting, {}
        for done in waiting:
            tell(done)


class Unpacks:
    """Those of this node."""

    def __init__(self, reactor: IUnpackReactor, layout: StorageLayout) -> None:
        self._reactor = reactor
        self._layout = layout
        self._running: dict[tuple[str, str | None], Unpack] = {}
        self._place = f"The storage of unpacked images ({layout.bases}) or of images ({layout.images})"

    async def provide(self, image: str, checksum: str | None, progress: Progress) -> str:
        """Unpack an image unless that was done.

        @return: the base's name.
        @raise PermanentError: the image cannot be used.
        @raise TransientError: the storage is in trouble.
        """
        key = image, checksum
        unpack = self._running.get(key)
        if unpack is not None and unpack.stuck:
            raise no_answer(self._place, SILENCE)
        return await (unpack or self._begin(key)).join(progress)

    def close(self) -> None:
        """End them. What they leave is removed by the next one."""
        for unpack in self._running.values():
            unpack.kill()

    def _begin(self, key: tuple[str, str | None]) -> Unpack:
        image, checksum = key
        unpack = self._running[key] = Unpack(self._reactor, image, self._place, lambda: self._forget(key))
        words = [sys.executable, "-I", "-S", "-X", "utf8", LAUNCH]
        self._reactor.spawnProcess(unpack, sys.executable, words, env={}, path="/")
        unpack.begin(self._plan(image, checksum))
        return unpack

    def _forget(self, key: tuple[str, str | None]) -> None:
        self._running.pop(key, None)

    def _plan(self, image: str, checksum: str | None) -> dict[str, Any]:
        layout = self._layout
        return {
            "parent": os.getpid(),
            "images": str(layout.images),
            "image": image,
            "bases": str(layout.bases),
            "checksum": checksum,
            "limit": layout.limit,
            "uid_base": layout.uid_base,
            "signs": layout.signs,
            "patience": PATIENCE,
            "subvolume": layout.subvolumes,
        }
