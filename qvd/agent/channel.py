# -*- test-case-name: tests.unit.test_agent_channel -*-
"""
The port through which a virtual machine's node gives the agent its marker, and orders the power off.

JSON objects, one a line. We say C{{"hello": 1}} until the node answers C{{"guest": {...}}}, with what the marker file
holds elsewhere; later it may send C{{"order": "poweroff"}}. What else comes is ignored: a newer node may know more.

The port of virtio-serial reports a hang-up for as long as nobody has it open on the other side, so it is looked at by
the clock, and not watched. Source: C{drivers/char/virtio_console.c} of Linux, C{port_fops_poll}.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from qvd.model.errors import SettingsError

HELLO = b'{"hello": 1}\n'
LOOK, SAY = 0.25, 2.0
"""Seconds between two looks; between two hellos."""
LONGEST = 4096
"""Bytes of a line."""


class Lines:
    """Cuts bytes into lines. One that is too long is dropped up to its end."""

    def __init__(self) -> None:
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._dropping and len(line) <= LONGEST:
                yield line
            self._dropping = False
        self._dropping = self._dropping or len(rest) > LONGEST
        self._rest = b"" if self._dropping else rest


def parse(line: bytes) -> dict[str, object]:
    """The object in a line; empty where there is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class NodeChannel:
    """One port, for as long as the agent runs.

    @param marked: called once, with the marker.
    @param power_off: called when that is ordered.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        path: str,
        marked: Callable[[dict[str, object]], None],
        power_off: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._path = path
        self._marked: Callable[[dict[str, object]], None] | None = marked
        self._power_off = power_off
        self._fd = -1
        self._lines = Lines()
        self._said = -SAY
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """@raise SettingsError: the port cannot be opened."""
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise SettingsError(f"{self._path}: {error.strerror}") from None
        self._said = self._clock.seconds() - SAY
        self._look()

    def stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        self._next = self._clock.callLater(LOOK, self._look)
        if self._marked is not None and self._clock.seconds() - self._said >= SAY:
            self._said = self._clock.seconds()
            # Nobody there, or nobody who reads: the next one may be heard.
            with contextlib.suppress(OSError):
                os.write(self._fd, HELLO)
        with contextlib.suppress(OSError):
            for line in self._lines.feed(os.read(self._fd, LONGEST)):
                self._take(parse(line))

    def _take(self, message: dict[str, object]) -> None:
        guest = message.get("guest")
        if isinstance(guest, dict) and self._marked is not None:
            marked, self._marked = self._marked, None
            marked(guest)
        if message.get("order") == "poweroff":
            self.log.info("the node orders the power off")
            self._power_off()
