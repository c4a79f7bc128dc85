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
from qvd.model.placement import (
    MIB,
    MOST_PRESSURE,
    RULES,
    Candidate,
    Decision,
    Wanted,
    Weights,
    decide,
    rejection,
    score,
)
from qvd.model.placement_words import describe

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
SMALL = Wanted(MIB)
HALF = Wanted(512 * MIB)


def never() -> float:
    return 0.0


def other(number: int, **changes: Any) -> Candidate:
    return evolve(GOOD, host_id=HostId(number), name=f"n{number}", **changes)


def test_a_good_node_takes_what_fits_exactly() -> None:
    assert rejection(GOOD, Wanted(1024 * MIB)) is None


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (evolve(GOOD, state="stopping"), "is stopping"),
        (evolve(GOOD, state="lost"), "is lost"),
        (evolve(GOOD, alive=False), "has shown no sign of life in time"),
        (evolve(GOOD, blocked=True), "is blocked for maintenance"),
        (evolve(GOOD, draining=True), "is being drained"),
        (evolve(GOOD, lacks="2026-01"), "does not have image '2026-01'"),
        (evolve(GOOD, free=512 * MIB), "has 512 MiB free, 2048 MiB are needed"),
        (evolve(GOOD, free=-5 * MIB), "has 0 MiB free, 2048 MiB are needed"),
        (evolve(GOOD, free=3000 * MIB, available=100 * MIB), "has 100 MiB left just now, 2048 MiB are needed"),
    ],
)
def test_each_rule_has_its_words(node: Candidate, reason: str) -> None:
    assert rejection(node, Wanted(2048 * MIB)) == reason


GPU = Wanted(MIB, require={"gpu": "yes"})
ALONE = Wanted(MIB, apart={"service": "dns"})
CLOSE = Wanted(MIB, together={"project": "x"})


@pytest.mark.parametrize(
    ("node", "wanted", "reason"),
    [
        (evolve(GOOD, hypervisor="lxc"), Wanted(MIB, "kvm"), "runs lxc, kvm is needed"),
        (GOOD, Wanted(MIB, "kvm"), "has not said what it runs, kvm is needed"),
        (GOOD, GPU, "has no property gpu, gpu=yes is needed"),
        (evolve(GOOD, properties={"gpu": "no"}), GPU, "has gpu=no, gpu=yes is needed"),
        (
            evolve(GOOD, company={"service": 1}),
            ALONE,
            "has a VM with service=dns already, from which this one is kept apart",
        ),
        (GOOD, CLOSE, "has no VM with project=x, with which this one is kept together"),
        (evolve(GOOD, memory_pressure=34.4), SMALL, "is short of memory: all its work waited for 34 % of 10 s"),
    ],
)
def test_each_wish_has_its_words(node: Candidate, wanted: Wanted, reason: str) -> None:
    assert rejection(node, wanted) == reason


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (evolve(GOOD, hypervisor="kvm"), Wanted(MIB, "kvm")),
        (evolve(GOOD, hypervisor="kvm"), SMALL),
        (evolve(GOOD, properties={"gpu": "yes"}), GPU),
        (evolve(GOOD, properties={"gpu": "no"}), Wanted(MIB, prefer={"gpu": "yes"})),
        (evolve(GOOD, company={"project": 3}), ALONE),
        (evolve(GOOD, company={"project": 3}), CLOSE),
        (evolve(GOOD, memory_pressure=MOST_PRESSURE, cpu_pressure=100.0), SMALL),
    ],
)
def test_what_is_met_rejects_nobody(node: Candidate, wanted: Wanted) -> None:
    assert rejection(node, wanted) is None


def test_each_rule_is_asked() -> None:
    """A node that breaks them all is told of one after the other, as they are mended."""
    worst = Candidate(HostId(1), "n1", "lost", True, False, 0, 0, 0, 1.0, 0.0, "lxc", 99.0, 99.0, {}, {"service": 1})
    wanted = Wanted(MIB, "kvm", GPU.require, {}, ALONE.apart, CLOSE.together)
    mends: list[dict[str, Any]] = [
        {"state": "running"},
        {"alive": True},
        {"blocked": False},
        {"hypervisor": "kvm"},
        {"properties": {"gpu": "yes"}},
        {"company": {}},
        {"company": {"project": 1}},
        {"free": MIB},
        {"available": MIB},
        {"memory_pressure": 0.0},
    ]
    reasons = []
    for mend in mends:
        reasons.append(rejection(worst, wanted))
        worst = evolve(worst, **mend)
    assert None not in reasons
    assert len(set(reasons)) == len(mends)
    assert rejection(worst, wanted) is None
    assert len(RULES) >= len(mends)


def test_the_first_of_those_that_belong_together_goes_anywhere() -> None:
    assert decide([GOOD, other(2, idle=3.0)], CLOSE, EVEN, never).taken == "n2"
    assert decide([evolve(GOOD, company={"project": 1}), other(2, idle=3.0)], CLOSE, EVEN, never).taken == "n1"


def test_where_they_are_but_nothing_is_free_nothing_is_taken() -> None:
    nodes = [evolve(GOOD, company={"project": 1}, free=0), other(2)]
    assert decide(nodes, CLOSE, EVEN, never).refusal == (
        "No node can take this virtual machine: n1 has 0 MiB free, 1 MiB are needed;"
        " n2 has no VM with project=x, with which this one is kept together"
    )


def test_a_preference_counts_as_a_part_of_all() -> None:
    wanted = Wanted(MIB, prefer={"ssd": "yes", "site": "north"})
    only = Weights(0.0, 0.0, 0.0, 3.0)
    assert score(GOOD, wanted, only, 0.9) == 0.0
    assert score(evolve(GOOD, properties={"ssd": "yes", "site": "south"}), wanted, only, 0.9) == 1.5
    assert score(evolve(GOOD, properties={"ssd": "yes", "site": "north"}), wanted, only, 0.9) == 3.0
    assert score(GOOD, SMALL, only, 0.9) == 0.0


def test_waiting_for_processors_takes_from_what_looks_idle() -> None:
    assert score(evolve(GOOD, cpu_pressure=50.0), SMALL, Weights(0.0, 1.0, 0.0), 0.9) == 0.25


def test_free_memory_counts_as_a_part_of_the_nodes_own() -> None:
    assert score(GOOD, SMALL, Weights(1.0, 0.0, 0.0), 0.9) == 0.25
    assert score(evolve(GOOD, available=512 * MIB), SMALL, Weights(2.0, 0.0, 0.0), 0.9) == 0.25


def test_so_do_idle_processors() -> None:
    assert score(GOOD, SMALL, Weights(0.0, 1.0, 0.0), 0.9) == 0.5


def test_and_chance() -> None:
    assert score(GOOD, SMALL, Weights(0.0, 0.0, 3.0), 0.5) == 1.5


def test_a_node_without_figures_yet_does_no_harm() -> None:
    assert score(evolve(GOOD, usable=0, free=0, available=0, cores=0.0, idle=0.0), SMALL, Weights(), 0.0) == 0.0


def test_the_highest_score_takes_it() -> None:
    nodes = [GOOD, other(2, idle=3.0), other(3, idle=1.0)]
    assert decide(nodes, HALF, EVEN, never).host_id == HostId(2)


def test_chance_decides_between_equals() -> None:
    chances: Iterator[float] = iter([0.1, 0.9, 0.5])
    nodes = [GOOD, other(2), other(3)]
    assert decide(nodes, SMALL, Weights(), lambda: next(chances)).host_id == HostId(2)


def test_a_rejected_node_never_takes_it() -> None:
    nodes = [evolve(GOOD, blocked=True, idle=4.0), other(2, idle=0.0)]
    assert decide(nodes, SMALL, EVEN, never).host_id == HostId(2)


def refused(nodes: Sequence[Candidate]) -> Decision:
    decision = decide(nodes, HALF, EVEN, never)
    assert decision.host_id is None
    return decision


def test_the_refusal_names_each_node() -> None:
    assert refused([evolve(GOOD, state="stopped"), other(2, free=0)]).refusal == (
        "No node can take this virtual machine: n1 is stopped; n2 has 0 MiB free, 512 MiB are needed"
    )


def test_the_refusal_without_nodes() -> None:
    assert refused([]).refusal == "No node can take this virtual machine: none is registered"


def test_a_stored_decision_is_told() -> None:
    decision = decide([GOOD, other(2, blocked=True), other(3, idle=0.0)], HALF, EVEN, never)
    stored = json.loads(json.dumps(decision.document()))
    figures = "1024 of 4096 MiB not reserved, 2048 MiB left"
    assert describe(stored) == [
        f"n1: score 0.75, the highest: taken ({figures}, 2.0 of 4 cores idle)",
        f"n2: rejected: it is blocked for maintenance ({figures}, 2.0 of 4 cores idle)",
        f"n3: score 0.25 ({figures}, 0.0 of 4 cores idle)",
    ]


def test_so_is_what_was_asked_for_and_seen() -> None:
    wanted = Wanted(MIB, "kvm", {"gpu": "yes"}, {"ssd": "yes"}, {"service": "dns"}, {"project": "x"})
    node = evolve(
        GOOD,
        hypervisor="kvm",
        cpu_pressure=1.25,
        memory_pressure=0.0,
        properties={"gpu": "yes"},
        company={"project": 2, "service": 1},
    )
    assert describe(json.loads(json.dumps(decide([node], wanted, EVEN, never).document()))) == [
        "needs hypervisor kvm; a node with gpu=yes; if possible a node with ssd=yes; no VM beside it with service=dns;"
        " a VM beside it with project=x",
        "n1: rejected: it has a VM with service=dns already, from which this one is kept apart"
        " (1024 of 4096 MiB not reserved, 2048 MiB left, 2.0 of 4 cores idle; pressure: processors 1.2 %, memory 0.0 %;"
        " runs kvm; has gpu=yes; VMs with the same project: 2, service: 1)",
    ]


def test_a_request_that_is_not_understood() -> None:
    decision = Decision(None, None, (), problem="The property is odd")
    assert decision.refusal == "The property is odd"
    assert describe(json.loads(json.dumps(decision.document()))) == ["no node was looked at. The property is odd"]


def test_a_decision_of_the_first_release_is_told_too() -> None:
    inputs = {"free": 0, "usable": 4096 * MIB, "available": 2048 * MIB, "idle": 2.0, "cores": 4.0, "memory": MIB}
    verdict = {"name": "n1", "rejection": "is stopped", "score": 0.0, "inputs": inputs}
    assert describe({"taken": None, "nodes": [verdict]}) == [
        "n1: rejected: it is stopped (0 of 4096 MiB not reserved, 2048 MiB left, 2.0 of 4 cores idle)"
    ]


names, values = st.sampled_from(["gpu", "site"]), st.sampled_from(["yes", "no"])
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
    hypervisor=st.sampled_from([None, "lxc", "kvm"]),
    cpu_pressure=st.none() | st.floats(0, 100),
    memory_pressure=st.none() | st.floats(0, 100),
    properties=st.dictionaries(names, values, max_size=2),
    company=st.dictionaries(names, st.integers(1, 3), max_size=2),
)
wishes = st.builds(
    Wanted,
    memory=st.integers(1, 1 << 41),
    hypervisor=st.sampled_from([None, "lxc", "kvm"]),
    require=st.dictionaries(names, values, max_size=2),
    prefer=st.dictionaries(names, values, max_size=2),
    apart=st.dictionaries(names, values, max_size=1),
    together=st.dictionaries(names, values, max_size=1),
)


@given(
    st.lists(candidates, max_size=8, unique_by=lambda node: node.host_id),
    wishes,
    st.builds(Weights, *[st.floats(0, 100)] * 4),
    st.floats(0, 1),
)
def test_whoever_takes_it_was_not_rejected_and_has_the_most(
    nodes: list[Candidate], wanted: Wanted, weights: Weights, chance: float
) -> None:
    give: Callable[[], float] = lambda: chance  # noqa: E731
    decision = decide(nodes, wanted, weights, give)
    in_force = wanted.seen_with(nodes)
    fit = [node for node in nodes if rejection(node, in_force) is None]
    assert [verdict.name for verdict in decision.verdicts] == [node.name for node in nodes]
    if not fit:
        assert decision.host_id is None
    else:
        (taken,) = [node for node in fit if node.host_id == decision.host_id]
        assert score(taken, in_force, weights, chance) == max(score(node, in_force, weights, chance) for node in fit)


def test_what_no_node_can_help_is_said_without_the_nodes() -> None:
    assert Decision(None, None, (), problem="The disk image is blocked").refusal == "The disk image is blocked"
