"""Which node takes a VM, and what is said of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.ids import HostId
from qvd.model.placement import MIB, Candidate, Decision, Weights, decide, describe, rejection, score

GOOD = Candidate(
    HostId(1),
    "n1",
    "running",
    blocked=False,
    alive=True,
    usable=4096 * MIB,
    free=1024 * MIB,
    available=2048 * MIB,
    cores=4.0,
    idle=2.0,
)
EVEN = Weights(1.0, 1.0, 0.0)


def never() -> float:
    return 0.0


def other(number: int, **changes: Any) -> Candidate:
    return evolve(GOOD, host_id=HostId(number), name=f"n{number}", **changes)


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
        (evolve(GOOD, free=3000 * MIB, available=100 * MIB), "has 100 MiB left just now, 2048 MiB are needed"),
    ],
)
def test_each_rule_has_its_words(node: Candidate, reason: str) -> None:
    assert rejection(node, 2048 * MIB) == reason


def test_free_memory_counts_as_a_part_of_the_nodes_own() -> None:
    assert score(GOOD, Weights(1.0, 0.0, 0.0), 0.9) == 0.25
    assert score(evolve(GOOD, available=512 * MIB), Weights(2.0, 0.0, 0.0), 0.9) == 0.25


def test_so_do_idle_processors() -> None:
    assert score(GOOD, Weights(0.0, 1.0, 0.0), 0.9) == 0.5


def test_and_chance() -> None:
    assert score(GOOD, Weights(0.0, 0.0, 3.0), 0.5) == 1.5


def test_a_node_without_figures_yet_does_no_harm() -> None:
    assert score(evolve(GOOD, usable=0, free=0, available=0, cores=0.0, idle=0.0), Weights(), 0.0) == 0.0


def test_the_highest_score_takes_it() -> None:
    nodes = [GOOD, other(2, idle=3.0), other(3, idle=1.0)]
    assert decide(nodes, 512 * MIB, EVEN, never).host_id == HostId(2)


def test_chance_decides_between_equals() -> None:
    chances: Iterator[float] = iter([0.1, 0.9, 0.5])
    nodes = [GOOD, other(2), other(3)]
    assert decide(nodes, MIB, Weights(), lambda: next(chances)).host_id == HostId(2)


def test_a_rejected_node_never_takes_it() -> None:
    nodes = [evolve(GOOD, blocked=True, idle=4.0), other(2, idle=0.0)]
    assert decide(nodes, MIB, EVEN, never).host_id == HostId(2)


def refused(nodes: Sequence[Candidate]) -> Decision:
    decision = decide(nodes, 512 * MIB, EVEN, never)
    assert decision.host_id is None
    return decision


def test_the_refusal_names_each_node() -> None:
    assert refused([evolve(GOOD, state="stopped"), other(2, free=0)]).refusal == (
        "No node can take this virtual machine: n1 is stopped; n2 has 0 MiB free, 512 MiB are needed"
    )


def test_the_refusal_without_nodes() -> None:
    assert refused([]).refusal == "No node can take this virtual machine: none is registered"


def test_a_stored_decision_is_told() -> None:
    decision = decide([GOOD, other(2, blocked=True), other(3, idle=0.0)], 512 * MIB, EVEN, never)
    stored = json.loads(json.dumps(decision.document()))
    figures = "1024 of 4096 MiB not reserved, 2048 MiB left"
    assert describe(stored) == [
        f"n1: score 0.75, the highest: taken ({figures}, 2.0 of 4 cores idle)",
        f"n2: rejected: it is blocked for maintenance ({figures}, 2.0 of 4 cores idle)",
        f"n3: score 0.25 ({figures}, 0.0 of 4 cores idle)",
    ]


candidates = st.builds(
    Candidate,
    host_id=st.integers(1, 50).map(HostId),
    name=st.text(min_size=1, max_size=5),
    state=st.sampled_from(["running", "running", "running", "stopped", "lost"]),
    blocked=st.booleans(),
    alive=st.booleans(),
    usable=st.integers(0, 1 << 40),
    free=st.integers(-(1 << 40), 1 << 40),
    available=st.integers(0, 1 << 40),
    cores=st.floats(0, 256),
    idle=st.floats(0, 256),
)


@given(
    st.lists(candidates, max_size=8, unique_by=lambda node: node.host_id),
    st.integers(1, 1 << 41),
    st.builds(Weights, *[st.floats(0, 100)] * 3),
    st.floats(0, 1),
)
def test_whoever_takes_it_was_not_rejected_and_has_the_most(
    nodes: list[Candidate], memory: int, weights: Weights, chance: float
) -> None:
    give: Callable[[], float] = lambda: chance  # noqa: E731
    decision = decide(nodes, memory, weights, give)
    fit = [node for node in nodes if rejection(node, memory) is None]
    assert [verdict.name for verdict in decision.verdicts] == [node.name for node in nodes]
    if not fit:
        assert decision.host_id is None
    else:
        (taken,) = [node for node in fit if node.host_id == decision.host_id]
        assert score(taken, weights, chance) == max(score(node, weights, chance) for node in fit)
