# -*- test-case-name: tests.unit.test_sim_queues -*-
"""What clients learned of the queues that they stood in, and whether these were just."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from attrs import frozen

from qvd.sim.users import Visit

POSITION = re.compile(r"^Position (?:about )?(\d+) in the queue of node (\S+), waiting to be prepared$")
"""As L{qvd.hkd.wording.place_in_queue} has it: of the first queue, where turns are taken in order of arrival."""
ANY_POSITION = re.compile(r"^Position (?:about )?\d+ in the queue of node ")
TOGETHER = 1.0
"""Seconds. Who asked within so long of one another came together: their orders may reach the node in either order."""


@frozen
class Stay:
    """Of one client in the queue of those that wait to be prepared.

    @ivar left_at: when its turn came.
    """

    tenant: str
    node: str
    asked_at: float
    left_at: float


def stay_of(visit: Visit) -> Stay | None:
    """L{None} for a client that was not told of that queue, or did not see its end."""
    node = None
    for at, text in visit.news:
        found = POSITION.match(text)
        if found is not None:
            node = found[2]
        elif node is not None:
            return Stay(visit.person.tenant, node, visit.asked_at, at)
    return None


def overtaken(stays: Iterable[Stay]) -> int:
    """How many had to see somebody of their own tenant, who had asked the same node later, go first."""
    lines: Mapping[tuple[str, str], list[Stay]] = defaultdict(list)
    for stay in stays:
        lines[stay.tenant, stay.node].append(stay)
    return sum(_overtaken(sorted(line, key=lambda stay: stay.asked_at, reverse=True)) for line in lines.values())


def _overtaken(line: Sequence[Stay]) -> int:
    """@param line: the last to ask comes first."""
    count = later = 0
    earliest = inf
    for stay in line:
        while line[later].asked_at > stay.asked_at + TOGETHER:
            earliest = min(earliest, line[later].left_at)
            later += 1
        count += earliest < stay.left_at
    return count


def account(visits: Sequence[Visit]) -> dict[str, int]:
    """C{clients} that were queued, C{told_their_position}, and C{overtaken}."""
    queued = [visit for visit in visits if any("queue of" in text for _, text in visit.news)]
    return {
        "clients": len(queued),
        "told_their_position": sum(any(ANY_POSITION.match(text) for _, text in visit.news) for visit in queued),
        "overtaken": overtaken(stay for stay in map(stay_of, queued) if stay is not None),
    }
