# -*- test-case-name: tests.unit.test_protocols_nxlog -*-
"""
What nxagent says about itself in its output, among much else.

Seen with nxagent 3.5.99.26. The X session's own programs write to the same output, and xinit without a line end, so
an event may stand anywhere in a line, and whoever works in the session can forge one: what is concluded from an event
must not harm anybody else.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen


class NXKind(Enum):
    """What happened."""

    AGENT_PID = "agent pid"
    STARTING = "starting"
    STARTED = "started"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    RESUMED = "resumed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    ABORTING = "aborting"
    ABORTED = "aborted"
    WAITING = "waiting for connection"
    ACCEPTED = "accepted connection"
    DISPLAY_FAILURE = "display failure detected"
    SLAVE = "listening to slave connections"
    MULTIMEDIA = "listening to multimedia connections"


@frozen
class NXEvent:
    """Something that nxagent reported.

    @ivar number: the pid or the port, where the event has one.
    """

    kind: NXKind
    number: int | None = None


_SESSION = re.compile(
    r"Session: (?:(?P<doing>Starting|Suspending|Resuming|Terminating|Aborting) session"
    r"|Session (?P<done>started|suspended|resumed|terminated|aborted)) at "
)
_PLAIN = (
    (re.compile(r"Info: Waiting for connection "), NXKind.WAITING),
    (re.compile(r"Info: Accepted connection "), NXKind.ACCEPTED),
    (re.compile(r"Session: Display failure detected"), NXKind.DISPLAY_FAILURE),
)
_PORT = r"on port '(?:[^']*:)?([0-9]{1,5})'"
_NUMBERED = (
    (re.compile(r"Info: Agent running with pid '([0-9]{1,9})'"), NXKind.AGENT_PID),
    (re.compile(rf"Listening to slave connections {_PORT}"), NXKind.SLAVE),
    (re.compile(rf"Listening to multimedia connections {_PORT}"), NXKind.MULTIMEDIA),
)


def parse_line(line: str) -> NXEvent | None:
    """The event that a line of output reports, if it does."""
    if session := _SESSION.search(line):
        return NXEvent(NXKind((session["doing"] or session["done"]).lower()))
    for pattern, kind in _PLAIN:
        if pattern.search(line):
            return NXEvent(kind)
    for pattern, kind in _NUMBERED:
        if found := pattern.search(line):
            return NXEvent(kind, int(found[1]))
    return None


class LineReader:
    """Lines out of a stream of bytes; what is longer than the limit is cut off, not kept."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._line = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Add bytes as they come in, and return the lines they complete, without line ends."""
        *complete, rest = data.split(b"\n")
        lines = []
        for piece in complete:
            self._add(piece)
            lines.append(self.finish())
        self._add(rest)
        return lines

    def finish(self) -> str:
        """What stands after the last line end."""
        line = self._line.decode("utf-8", "replace").removesuffix("\r")
        self._line.clear()
        return line

    def _add(self, piece: bytes) -> None:
        self._line += piece[: self._limit - len(self._line)]
