# -*- test-case-name: tests.cli.test_moments -*-
"""Moments as people write them: C{-8h}, C{+2d}, C{now}, C{tomorrow 20:00}, C{2026-06-01}, C{22:00}."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

SPAN = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]{1,9})(?P<unit>[smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
EXAMPLES = "2026-06-01T20:00, 'tomorrow 20:00', 22:00, -8h, +2d"


def span(text: str) -> timedelta | None:
    """A length of time; L{None}: it is none."""
    found = SPAN.fullmatch(text)
    if found is None:
        return None
    try:
        length = timedelta(**{UNITS[found["unit"]]: int(found["number"])})
    except OverflowError:
        return None
    return -length if found["sign"] == "-" else length


def moment(text: str, now: datetime) -> datetime | None:
    """In UTC; L{None}: it is none. Without a zone it is meant as the clock on the wall shows it.

    @param now: with the zone of the wall.
    """
    words = text.strip().lower().split()
    try:
        if len(words) == 1 and (length := span(words[0])) is not None:
            return (now + length).astimezone(UTC)
        if words == ["now"]:
            return now.astimezone(UTC)
        if words and words[0] in DAYS and len(words) <= 2:
            day = now.date() + timedelta(days=DAYS[words[0]])
            clock = time.fromisoformat(words[1]) if len(words) == 2 else time()
            return datetime.combine(day, clock, now.tzinfo).astimezone(UTC)
        if len(words) == 1 and re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", words[0]):
            # The next time that the clock shows it.
            found = datetime.combine(now.date(), time.fromisoformat(words[0].zfill(5)), now.tzinfo)
            return (found if found > now else found + timedelta(days=1)).astimezone(UTC)
        made = datetime.fromisoformat(text.strip())
        return (made if made.tzinfo else made.replace(tzinfo=now.tzinfo)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def written(at: datetime) -> str:
    """As the API takes it (RFC 3339)."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def here() -> datetime:
    """Now, by the clock on the wall."""
    return datetime.now().astimezone()
