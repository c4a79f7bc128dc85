"""Looking at an X screen and typing on it, as a person would."""

from __future__ import annotations

import os
import struct
import subprocess
from collections import Counter

from attrs import frozen


@frozen
class Picture:
    """What a screen shows: a color, C{0xRRGGBB}, for each pixel, row by row."""

    width: int
    height: int
    pixels: list[int]

    @property
    def colors(self) -> Counter[int]:
        """How often each color is there."""
        return Counter(self.pixels)


def look(display: str) -> Picture:
    """The root window of a screen of 24 bits, little endian. Source of the layout: C{X11/XWDFile.h}."""
    dump = subprocess.run(
        ["xwd", "-silent", "-root", "-display", display], capture_output=True, check=True, timeout=30
    ).stdout
    header = struct.unpack(">25I", dump[:100])
    size, width, height, order, bits, line, colors = (header[index] for index in (0, 4, 5, 7, 11, 12, 19))
    assert order == 0 and bits in (24, 32), header
    start, step = size + colors * 12, bits // 8
    pixels = []
    for row in range(height):
        data = dump[start + row * line : start + row * line + width * step]
        channels = zip(data[::step], data[1::step], data[2::step], strict=True)
        pixels += [red << 16 | green << 8 | blue for blue, green, red in channels]
    return Picture(width, height, pixels)


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
