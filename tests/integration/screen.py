"""Looking at an X screen and typing on it, as a person would."""

from __future__ import annotations

import os
import struct
import subprocess
from collections import Counter

from attrs import frozen


@frozen
class Picture:
    """What a screen shows.

    @ivar pixels: rows of 32-bit values.
    """

    width: int
    height: int
    pixels: memoryview

    @property
    def colors(self) -> Counter[int]:
        """How often each color is there."""
        return Counter(value & 0xFFFFFF for value in self.pixels)


def look(display: str) -> Picture:
    """The root window of a screen with 24 bits. Source of the layout: C{X11/XWDFile.h}."""
    dump = subprocess.run(
        ["xwd", "-silent", "-root", "-display", display], capture_output=True, check=True, timeout=30
    ).stdout
    header = struct.unpack(">25I", dump[:100])
    size, width, height, bits, line, colors = header[0], header[4], header[5], header[11], header[12], header[19]
    assert bits == 32 and line == 4 * width, header
    start = size + colors * 12
    return Picture(width, height, memoryview(dump[start : start + line * height]).cast("I"))


def xdotool(display: str, *words: str) -> str:
    """Move, click, type."""
    environment = {**os.environ, "DISPLAY": display}
    done = subprocess.run(["xdotool", *words], capture_output=True, text=True, env=environment, check=True, timeout=30)
    return done.stdout


def type_line(display: str, x: int, y: int, text: str) -> None:
    """Click at a place and type a line there."""
    xdotool(display, "mousemove", str(x), str(y), "click", "1")
    xdotool(display, "type", "--delay", "20", text)
    xdotool(display, "key", "Return")
