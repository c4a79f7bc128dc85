# -*- test-case-name: tests.panel.test_charts -*-
"""Figures as geometry: what a template writes as SVG. No colours here; those are classes of the style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

WHOLE = 100.0
GAP = 0.6
"""Between two parts of a ring, in hundredths of it, so that neighbours are told apart without colour."""


@frozen
class Part:
    """One part of a whole.

    @ivar name: of what it is; also its class.
    @ivar share: per cent. C{start}: where it begins, likewise.
    @ivar length: of its stroke in a ring.
    """

    name: str
    value: int
    share: float
    start: float

    @property
    def length(self) -> float:
        return round(max(self.share - GAP, min(self.share, GAP)), 3) if self.share < WHOLE else WHOLE


def parts(counts: Iterable[tuple[str, int]]) -> Sequence[Part]:
    """Parts of a ring or a bar, in the given order; those that are nothing are left out."""
    known = [(name, value) for name, value in counts if value > 0]
    total = sum(value for _, value in known)
    found, start = [], 0.0
    for name, value in known:
        share = value * WHOLE / total
        found.append(Part(name, value, round(share, 3), round(start, 3)))
        start += share
    return found


def share(part: float | None, whole: float | None) -> float | None:
    """Per cent, from 0 to 100; L{None}: nobody knows."""
    if part is None or not whole:
        return None
    return round(min(max(part * WHOLE / whole, 0.0), WHOLE), 1)


def level(percent: float | None) -> str:
    """What a load means: the name of a class."""
    if percent is None:
        return "unknown"
    return "high" if percent >= 90 else "raised" if percent >= 75 else "fine"
