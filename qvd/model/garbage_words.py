# -*- test-case-name: tests.unit.test_model_garbage -*-
"""A run of the collection of garbage, as administrators see it."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.model.garbage import WORDS, Fate, Verdict

MIB = 1 << 20
HEADS = ("WHAT", "WHERE", "FATE", "SINCE", "MiB", "WHY")
NUMBERS = frozenset({4})
"""Columns that are numbers."""
FATES = {
    Fate.KEEP: "stays",
    Fate.MARK: "is marked",
    Fate.WAIT: "waits",
    Fate.HOLD: "needs --homes",
    Fate.TRASH: "to the trash",
    Fate.DELETE: "is removed",
    Fate.REPORT: "is left to you",
    Fate.LEAVE: "is left alone",
}


def table(lines: Sequence[tuple[str, Verdict]]) -> list[str]:
    """Line by line, a thing each.

    @param lines: where each thing is, and what becomes of it.
    """
    cells = [HEADS] + [
        (
            WORDS[verdict.thing.kind],
            where,
            FATES[verdict.fate],
            verdict.mark.since if verdict.mark is not None else "-",
            "-" if verdict.size is None else f"{verdict.size / MIB:.1f}",
            verdict.reason,
        )
        for where, verdict in lines
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    return ["  ".join(padded(row, widths)).rstrip() for row in cells]


def padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column in NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
