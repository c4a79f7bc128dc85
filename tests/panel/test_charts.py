"""Figures as geometry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.panel.charts import GAP, WHOLE, level, parts, share


def test_parts_follow_one_another_and_leave_out_what_is_nothing() -> None:
    first, second = parts([("running", 3), ("zombie", 0), ("stopped", 1)])
    assert (first.name, first.share, first.start, first.length) == ("running", 75.0, 0.0, 75.0 - GAP)
    assert (second.name, second.share, second.start) == ("stopped", 25.0, 75.0)


def test_one_part_is_the_whole_ring() -> None:
    (only,) = parts([("running", 5)])
    assert only.length == WHOLE


def test_nothing_has_no_parts() -> None:
    assert parts([("running", 0)]) == []


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_parts_fill_the_whole_and_can_all_be_seen(values: list[int]) -> None:
    found = parts([(str(number), value) for number, value in enumerate(values)])
    assert sum(each.share for each in found) == pytest.approx(WHOLE if any(values) else 0, abs=0.1)
    assert all(0 < each.length <= WHOLE or each.share == 0 for each in found)


@pytest.mark.parametrize(
    ("part", "whole", "said", "meant"),
    [
        (1, 4, 25.0, "fine"),
        (8, 10, 80.0, "raised"),
        (95, 100, 95.0, "high"),
        (5, 4, 100.0, "high"),
        (1, 0, None, "unknown"),
    ],
)
def test_shares_are_per_cent_and_mean_something(part: int, whole: int, said: float | None, meant: str) -> None:
    assert share(part, whole) == said
    assert level(share(part, whole)) == meant
