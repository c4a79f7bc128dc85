"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.cli.moments import moment, span, written

NOW = datetime(2026, 5, 31, 21, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", "2026-05-31T19:30:00Z"),
        ("-8h", "2026-05-31T11:30:00Z"),
        ("90m", "2026-05-31T21:00:00Z"),
        ("+2d", "2026-06-02T19:30:00Z"),
        ("1w", "2026-06-07T19:30:00Z"),
        ("tomorrow 20:00", "2026-06-01T18:00:00Z"),
        ("Today", "2026-05-30T22:00:00Z"),
        ("yesterday 09:15", "2026-05-30T07:15:00Z"),
        ("22:00", "2026-05-31T20:00:00Z"),
        ("9:00", "2026-06-01T07:00:00Z"),
        ("2026-06-01", "2026-05-31T22:00:00Z"),
        ("2026-06-01 20:00:00", "2026-06-01T18:00:00Z"),
        ("2026-06-01T20:00:00Z", "2026-06-01T20:00:00Z"),
    ],
)
def test_what_is_meant(text: str, wanted: str) -> None:
    found = moment(text, NOW)
    assert found is not None
    assert written(found) == wanted


@pytest.mark.parametrize("text", ["", "soon", "25:00", "tomorrow never", "2026-13-01", "8 h", "999999999w", "-8"])
def test_what_is_none(text: str) -> None:
    assert moment(text, NOW) is None


@given(st.text(max_size=20))
def test_whatever_is_typed(text: str) -> None:
    found = moment(text, NOW)
    assert found is None or found.tzinfo is UTC


def test_spans() -> None:
    assert span("30d") == timedelta(days=30)
    assert span("x") is None
