"""What a user who waits is told."""

from __future__ import annotations

import itertools

from qvd.hkd.wording import EXACT, blame, place_in_queue, rounded
from qvd.model.vm import Event, Step, Work


def test_a_place_names_the_node_and_what_is_waited_for() -> None:
    assert place_in_queue(3, "n2", Work.BOOT) == "Position 3 in the queue of node n2, waiting to boot"
    assert place_in_queue(1, "n2", Work.UNPACK) == "Position 1 in the queue of node n2, waiting to be prepared"


def test_near_places_are_exact_and_far_ones_rounded_up() -> None:
    assert [rounded(position) for position in range(1, EXACT + 1)] == [str(number) for number in range(1, EXACT + 1)]
    far = [21, 30, 31, 100, 101, 999, 1001, 12345]
    assert [rounded(position) for position in far] == [
        "about 30",
        "about 30",
        "about 40",
        "about 100",
        "about 200",
        "about 1000",
        "about 2000",
        "about 20000",
    ]


def test_a_walk_through_a_long_queue_changes_the_text_seldom() -> None:
    texts = [rounded(position) for position in range(10000, 0, -1)]
    changes = sum(old != new for old, new in itertools.pairwise(texts))
    assert changes < 60


def test_a_wait_that_was_too_long_is_the_nodes_fault() -> None:
    for step in (Step.QUEUED, Step.PREPARED):
        assert "node was busy" in blame(step, Event.TIMED_OUT)
    assert "not up in time" in blame(Step.BOOT, Event.TIMED_OUT)
