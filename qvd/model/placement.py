# -*- test-case-name: tests.unit.test_model_placement -*-
"""
Which node runs a VM, and why: filters that reject a node with a reason, then a score.

Pure functions over a snapshot. Whoever takes it holds the nodes' rows, so that what is decided here is still true when
it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from qvd.model.ids import HostId

MIB = 1024 * 1024


@frozen
class Candidate:
    """A node as the placement saw it. Memory in bytes, processors in cores.

    @ivar alive: its lease has not run out.
    @ivar usable: memory for VMs.
    @ivar free: of that, what is not reserved by VMs bound to it.
    @ivar available: memory that was free when the node last looked, whoever uses the rest.
    @ivar idle: cores that had nothing to do then.
    """

    host_id: HostId
    name: str
    state: str
    blocked: bool
    alive: bool
    usable: int
    free: int
    available: int
    cores: float
    idle: float


@frozen
class Weights:
    """How much each part of the score counts: the keys C{l7r.loadbalancer.plugin.default.weight.*} of QVD 4.2, here on
    parts of the node's own size (0 to 1), so that memory and processors can be added up."""

    ram: float = 1.0
    cpu: float = 1.0
    random: float = 1.0


@frozen
class Verdict:
    """What was found of one node.

    @ivar rejection: the rule that rejected it, in words; else it had C{score}.
    @ivar inputs: the figures that this was found from.
    """

    name: str
    rejection: str | None
    score: float
    inputs: Mapping[str, Any]


@frozen
class Decision:
    """The node, if any, with its name, and what was found of each."""

    host_id: HostId | None
    taken: str | None
    verdicts: Sequence[Verdict]

    def document(self) -> dict[str, Any]:
        """For the VM's row: what L{describe} reads."""
        return {"taken": self.taken, "nodes": [asdict(verdict) for verdict in self.verdicts]}

    @property
    def refusal(self) -> str:
        """The sentence for a user whose VM no node takes."""
        if not self.verdicts:
            return "No node can take this virtual machine: none is registered"
        reasons = (f"{verdict.name} {verdict.rejection}" for verdict in self.verdicts)
        return "No node can take this virtual machine: " + "; ".join(reasons)


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
    if node.available < memory:
        return f"has {node.available // MIB} MiB left just now, {memory // MIB} MiB are needed"
    return None


def score(node: Candidate, weights: Weights, chance: float) -> float:
    """More is better. @param chance: 0 to 1."""
    ram = min(node.free, node.available) / max(node.usable, 1)
    cpu = node.idle / max(node.cores, 1.0)
    return weights.ram * ram + weights.cpu * cpu + weights.random * chance


def decide(nodes: Sequence[Candidate], memory: int, weights: Weights, chance: Callable[[], float]) -> Decision:
    """Choose a node for a VM of C{memory} bytes.

    @param chance: gives a number from 0 to 1, asked once for each node.
    """
    best: Candidate | None = None
    highest = 0.0
    verdicts = []
    for node in nodes:
        why = rejection(node, memory)
        points = 0.0 if why else score(node, weights, chance())
        if why is None and (best is None or points > highest):
            best, highest = node, points
        verdicts.append(Verdict(node.name, why, round(points, 4), asdict(node) | {"memory": memory}))
    if best is None:
        return Decision(None, None, tuple(verdicts))
    return Decision(best.host_id, best.name, tuple(verdicts))


def describe(document: Mapping[str, Any]) -> list[str]:
    """A stored decision (L{Decision.document}) in words, a line a node."""
    lines = []
    for verdict in document["nodes"]:
        name, inputs = verdict["name"], verdict["inputs"]
        figures = (
            f"{max(inputs['free'], 0) // MIB} of {inputs['usable'] // MIB} MiB not reserved,"
            f" {inputs['available'] // MIB} MiB left, {inputs['idle']:.1f} of {inputs['cores']:g} cores idle"
        )
        if verdict["rejection"]:
            lines.append(f"{name}: rejected: it {verdict['rejection']} ({figures})")
        else:
            mark = ", the highest: taken" if name == document["taken"] else ""
            lines.append(f"{name}: score {verdict['score']:.2f}{mark} ({figures})")
    return lines
