# -*- test-case-name: tests.unit.test_sim_observer -*-
"""
The observer outside the nodes: what runs where, as the simulated machines themselves know it.

The invariant of the whole product is checked at each start and end: at no instant do two nodes run one VM, or have one
home mounted; and no node runs more than its memory holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from qvd.model.ids import VMId

MOST_KEPT = 100


class Observer:
    """Hears of every guest and every home.

    @param seconds: the time, for the record.
    @ivar violations: how often the invariant did not hold; C{accounts} tells of the first ones.
    @ivar overbooked: how often a guest was started that its node had no memory for.
    @ivar most: by node, the most guests at one time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._running: dict[VMId, list[str]] = defaultdict(list)
        self._mounted: dict[VMId, list[str]] = defaultdict(list)
        self._memory: dict[str, int] = defaultdict(int)
        self._count: dict[str, int] = defaultdict(int)
        self.violations = 0
        self.overbooked = 0
        self.accounts: list[str] = []
        self.most: dict[str, int] = defaultdict(int)

    @property
    def counts(self) -> Mapping[str, int]:
        """Guests by node, now."""
        return self._count

    def started(self, vm_id: VMId, node: str, memory: int, usable: int) -> None:
        """A guest's processes exist.

        @param memory: bytes that it was given.
        @param usable: bytes that its node has for guests.
        """
        self._take(self._running, vm_id, node, "runs")
        self._memory[node] += memory
        self._count[node] += 1
        self.most[node] = max(self.most[node], self._count[node])
        if self._memory[node] > usable:
            self.overbooked += 1
            self._tell(f"node {node} runs guests of {self._memory[node]} bytes and has {usable}")

    def ended(self, vm_id: VMId, node: str, memory: int) -> None:
        """They are gone."""
        self._running[vm_id].remove(node)
        self._memory[node] -= memory
        self._count[node] -= 1

    def mounted(self, vm_id: VMId, node: str) -> None:
        """The VM's home can be written from a node."""
        self._take(self._mounted, vm_id, node, "has its home mounted")

    def unmounted(self, vm_id: VMId, node: str) -> None:
        """It cannot any more."""
        self._mounted[vm_id].remove(node)

    def _take(self, table: dict[VMId, list[str]], vm_id: VMId, node: str, what: str) -> None:
        others = table[vm_id]
        if others:
            self.violations += 1
            self._tell(f"VM {vm_id} {what} on {node} and on {', '.join(others)}")
        others.append(node)

    def _tell(self, text: str) -> None:
        if len(self.accounts) < MOST_KEPT:
            self.accounts.append(f"at {self._seconds():.3f} s: {text}")
