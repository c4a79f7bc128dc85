# -*- test-case-name: tests.unit.test_sim_report -*-
"""What is kept of a run, and the figures that come of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from attrs import frozen

from qvd.sim import queues
from qvd.sim.observer import Observer
from qvd.sim.scenario import Pace, Scenario, clock_text
from qvd.sim.users import Visit

PHASES = (
    ("queue of", "queued"),
    ("contending", "take-over"),
    ("acquired", "placement"),
    ("Assigning", "placement"),
    ("Starting virtual machine", "placement"),
    ("Preparing", "preparation"),
    ("npacking", "preparation"),
    ("Booting", "boot"),
    ("agent", "boot"),
    ("Starting X", "X session"),
    ("X session", "X session"),
    ("Connection established", "switch"),
)
"""Phases of a connection by what its client is told: the first word that is in the text counts."""
NUMBER = re.compile(r"\d+")
MOST_REASONS = 10
LONGEST_REASON = 160


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """C{count}, C{p50}, C{p95}, C{p99} and C{max} (nearest rank); only the count of nothing."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)

    def rank(part: float) -> float:
        return round(ordered[max(ceil(part * len(ordered)) - 1, 0)], 4)

    return {"count": len(ordered), "p50": rank(0.5), "p95": rank(0.95), "p99": rank(0.99), "max": round(ordered[-1], 4)}


def phase_of(text: str) -> str:
    """The phase in which a client is told this."""
    return next((phase for word, phase in PHASES if word in text), "other")


@frozen
class Sample:
    """The farm at one moment.

    @ivar at: second of the day.
    @ivar guests: by node.
    @ivar waiting: VMs on their way, by phase.
    @ivar queries: statements a second since the last sample, by node.
    """

    at: float
    guests: Mapping[str, int]
    waiting: Mapping[str, int]
    queries: Mapping[str, float]


class Record:
    """Of one run.

    @ivar users: who were to log in.
    @ivar reactions: seconds from an order to its being taken up; empty in virtual time, where nothing takes any.
    @ivar wrong: accounts of desktops that were somebody else's.
    @ivar clock_offset: the world's seconds, in which visits are kept, less the seconds of the day.
    @ivar internal_errors: failures that nodes did not expect, by their logs.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.users = 0
        self.visits: list[Visit] = []
        self.samples: list[Sample] = []
        self.reactions: list[float] = []
        self.wrong: list[str] = []
        self.leftovers: Mapping[str, int] = {}
        self.internal_errors = 0
        self.real_seconds = 0.0
        self.clock_offset = 0.0
        self.violations = 0
        self.overbooked = 0
        self.accounts: list[str] = []
        self.most: Mapping[str, int] = {}
        self._nodes = 0

    def began(self, nodes: Sequence[object]) -> None:
        """The day begins."""
        self._nodes = len(nodes)

    def observed(self, observer: Observer) -> None:
        """The day is over."""
        self.violations, self.overbooked = observer.violations, observer.overbooked
        self.accounts, self.most = list(observer.accounts), dict(observer.most)

    def news(self) -> str:
        """One line on how it stands."""
        last = self.samples[-1]
        served = sum(1 for visit in self.visits if visit.desktop_at is not None)
        return (
            f"{clock_text(last.at)}  {sum(last.guests.values())} VMs run, {sum(last.waiting.values())} on their way,"
            f" {served} desktops, {len(self.visits) - served} refusals,"
            f" {sum(last.queries.values()):.0f} queries/s"
        )

    def document(self) -> dict[str, Any]:
        """All figures, for programs."""
        scenario = self.scenario
        served = [visit for visit in self.visits if visit.desktop_at is not None]
        happy = {visit.person.user_id for visit in served}
        tried = {visit.person.user_id for visit in self.visits}
        queries = [value for sample in self.samples for value in sample.queries.values()]
        return {
            "scenario": scenario.title,
            "clock": scenario.pace.value,
            "seed": scenario.seed,
            "simulated_s": scenario.end - scenario.start,
            "real_s": round(self.real_seconds, 1),
            "nodes": self._nodes,
            "vms": sum(tenant.vms for tenant in scenario.tenants),
            "logins": self.users,
            "desktops": len(served),
            "users_without_desktop": len(tried - happy),
            "time_to_desktop_s": percentiles(
                [visit.desktop_at - visit.asked_at for visit in served if visit.desktop_at]
            ),
            "phases_s": self._phases(served),
            "refused": self._refused(),
            "cut_off": sum(visit.cut_off for visit in served),
            "queued": {**queues.account(self.visits), "most_waiting": self._most_waiting()},
            "vms_per_node": {
                "least_peak": min(self.most.values(), default=0),
                "peak": max(self.most.values(), default=0),
            },
            "queries_per_s_per_node": {
                "mean": round(sum(queries) / len(queries), 2) if queries else 0.0,
                "peak": round(max(queries, default=0.0), 2),
            },
            "reaction_s": percentiles(self.reactions) if scenario.pace is Pace.REAL else None,
            "violations": self.violations,
            "overbooked": self.overbooked,
            "wrong_desktops": len(self.wrong),
            "leftovers": dict(self.leftovers),
            "internal_errors": self.internal_errors,
        }

    def _phases(self, served: Sequence[Visit]) -> dict[str, dict[str, float]]:
        found: dict[str, list[float]] = defaultdict(list)
        for visit in served:
            if visit.desktop_at is None or not visit.news:
                continue
            spent: dict[str, float] = defaultdict(float)
            ends = [at for at, _ in visit.news[1:]] + [visit.desktop_at]
            for (at, text), end in zip(visit.news, ends, strict=True):
                spent[phase_of(text)] += end - at
            for phase, seconds in spent.items():
                found[phase].append(seconds)
        return {phase: percentiles(values) for phase, values in sorted(found.items())}

    def _refused(self) -> dict[str, int]:
        """By status and reason, with all numbers taken for the same."""
        reasons = Counter(
            f"{visit.status or 'no answer'} {NUMBER.sub('N', visit.reason)}"[:LONGEST_REASON]
            for visit in self.visits
            if visit.desktop_at is None
        )
        return dict(reasons.most_common(MOST_REASONS))

    def _most_waiting(self) -> dict[str, int]:
        most: dict[str, int] = {}
        for sample in self.samples:
            for phase, number in sample.waiting.items():
                most[phase] = max(most.get(phase, 0), number)
        return most
