# -*- test-case-name: tests.unit.test_model_nodes -*-
"""The nodes of a farm as administrators see them."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from qvd.model.ids import HostId
from qvd.model.records import Drain, HostState

MIB = 1 << 20
HEADS = ("NODE", "ADDRESS", "STATE", "LEASE", "VMS", "SESSIONS", "FREE MiB", "OF MiB", "LEFT MiB", "IDLE", "OF CPUS")
TEXTS = 4
"""So many columns are texts, the rest numbers."""


@frozen
class NodeSummary:
    """One node. Memory in bytes, processors in cores.

    @ivar lease_seconds: until its lease is over; negative: since it was; L{None}: it never had one.
    @ivar vms: that are bound to it, running or not.
    @ivar sessions: that it serves.
    @ivar usable: memory for VMs; C{free} of that is not reserved.
    @ivar available: memory that was free at the last renewal, whoever uses the rest.
    """

    host_id: HostId
    name: str
    address: str
    state: HostState
    blocked: bool
    drain: Drain | None
    decommissioned: bool
    lease_seconds: float | None
    vms: int
    sessions: int
    usable: int
    free: int
    available: int
    cores: float
    idle: float

    @property
    def condition(self) -> str:
        """State and flags in words."""
        if self.decommissioned:
            return "decommissioned"
        words = [self.state.value]
        if self.blocked:
            words.append("blocked")
        if self.drain is not None:
            words.append("drained" if self.vms == 0 else f"draining ({self.drain.value})")
        return ", ".join(words)

    @property
    def lease(self) -> str:
        """The lease in words."""
        if self.lease_seconds is None:
            return "never"
        if self.lease_seconds >= 0:
            return f"{self.lease_seconds:.0f} s"
        return "over"


def table(nodes: Sequence[NodeSummary]) -> list[str]:
    """Line by line, a node each."""
    cells = [HEADS] + [
        (
            node.name,
            node.address,
            node.condition,
            node.lease,
            str(node.vms),
            str(node.sessions),
            str(node.free // MIB),
            str(node.usable // MIB),
            str(node.available // MIB),
            f"{node.idle:.1f}",
            f"{node.cores:g}",
        )
        for node in nodes
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    return ["  ".join(_padded(row, widths)).rstrip() for row in cells]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column < TEXTS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
