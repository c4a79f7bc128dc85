# -*- test-case-name: tests.unit.test_model_placement -*-
"""Why a node cannot take a VM, in words. The choice itself is made by the statement that binds the VM."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

MIB = 1024 * 1024


@frozen
class Candidate:
    """A node, as the placement saw it.

    @ivar alive: its lease has not run out.
    @ivar free: bytes not reserved by VMs bound to it.
    """

    name: str
    state: str
    blocked: bool
    alive: bool
    free: int


def rejection(node: Candidate, memory: int) -> str | None:
    """The rule that keeps C{node} from taking a VM of C{memory} bytes, or L{None}."""
    if node.state != "running":
        return f"is {node.state}"
    if not node.alive:
        return "has shown no sign of life in time"
    if node.blocked:
        return "is blocked for maintenance"
    if node.free < memory:
        return f"has {max(node.free, 0) // MIB} MiB free, {memory // MIB} MiB are needed"
    return None


def explain(nodes: Sequence[Candidate], memory: int) -> str:
    """The sentence for a user whose VM no node takes."""
    if not nodes:
        return "No node can take this virtual machine: none is registered"
    reasons = (f"{node.name} {rejection(node, memory) or 'has just filled up'}" for node in nodes)
    return "No node can take this virtual machine: " + "; ".join(reasons)
