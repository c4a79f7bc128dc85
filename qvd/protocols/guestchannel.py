# -*- test-case-name: tests.unit.test_guestchannel -*-
"""
What a virtual machine's agent and its node say to each other on a port of the machine itself (virtio-serial).

It is there before the guest has a network, and nobody else can reach it. Each side writes JSON objects, one a line::

    guest: {"say": "ask"}                        what am I?
    node:  {"say": "marker", "marker": {...}}    what a driver puts into guest.json elsewhere
    node:  {"say": "poweroff"}                   turn yourself off, in order
    guest: {"say": "obey"}                       I do

The port joins two programs that come and go without the other noticing. So either begins by ending the line that its
predecessor may have left, what is no such line is passed over, and a guest asks again until it is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import frozen

LIMIT = 8192
"""Bytes of a line. Longer ones are passed over."""


class Word(Enum):
    """What can be said."""

    ASK = "ask"
    MARKER = "marker"
    POWEROFF = "poweroff"
    OBEY = "obey"


@frozen
class Saying:
    """A line.

    @ivar marker: JSON, of L{Word.MARKER} alone.
    """

    word: Word
    marker: bytes = b""


class Lines:
    """Cuts what arrives into lines, and forgets the overlong."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Saying]:
        """@return: what was said in the lines that are complete now."""
        *complete, rest = (self._rest + data).split(b"\n")
        if complete and self._skipping:
            complete = complete[1:]
            self._skipping = False
        if len(rest) > LIMIT:
            rest, self._skipping = b"", True
        self._rest = rest if not self._skipping else b""
        sayings = (decode(line) for line in complete if len(line) <= LIMIT)
        return [saying for saying in sayings if saying is not None]


def decode(line: bytes) -> Saying | None:
    """L{None}: it says nothing that is known."""
    try:
        table = json.loads(line)
        word = Word(table["say"])
        marker = json.dumps(table["marker"]).encode() if word is Word.MARKER else b""
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Saying(word, marker)


def encode(word: Word) -> bytes:
    return json.dumps({"say": word.value}).encode() + b"\n"


def encode_marker(marker: Mapping[str, Any]) -> bytes:
    return json.dumps({"say": Word.MARKER.value, "marker": marker}).encode() + b"\n"
