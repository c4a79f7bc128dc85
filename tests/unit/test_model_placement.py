"""Why no node takes a VM, as the user reads it."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.model.placement import MIB, Candidate, explain, rejection

GOOD = Candidate("n1", "running", blocked=False, alive=True, free=1024 * MIB)


def test_a_good_node_takes_what_fits_exactly() -> None:
    assert rejection(GOOD, 1024 * MIB) is None


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (evolve(GOOD, state="stopping"), "is stopping"),
        (evolve(GOOD, state="lost"), "is lost"),
        (evolve(GOOD, alive=False), "has shown no sign of life in time"),
        (evolve(GOOD, blocked=True), "is blocked for maintenance"),
        (evolve(GOOD, free=512 * MIB), "has 512 MiB free, 2048 MiB are needed"),
        (evolve(GOOD, free=-5 * MIB), "has 0 MiB free, 2048 MiB are needed"),
    ],
)
def test_each_rule_has_its_words(node: Candidate, reason: str) -> None:
    assert rejection(node, 2048 * MIB) == reason


def test_the_sentence_names_each_node() -> None:
    nodes = [evolve(GOOD, state="stopped"), evolve(GOOD, name="n2", free=0), evolve(GOOD, name="n3")]
    assert explain(nodes, 512 * MIB) == (
        "No node can take this virtual machine: n1 is stopped; n2 has 0 MiB free, 512 MiB are needed;"
        " n3 has just filled up"
    )


def test_the_sentence_without_nodes() -> None:
    assert explain([], MIB) == "No node can take this virtual machine: none is registered"
