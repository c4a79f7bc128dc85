# -*- test-case-name: tests.unit.test_model_placement -*-
"""
Which node runs a VM, and why: filters that reject a node with a reason, then a score.

Pure functions over a snapshot. Whoever takes it holds the nodes' rows, so that what is decided here is still true when
it is written. A new filter is a field of L{Candidate} (the column of the same name in C{qvd.db.vms.CANDIDATES}), a
function and its line in L{RULES}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import asdict, evolve, field, frozen

from qvd.model.ids import HostId

MIB = 1024 * 1024
NO_NODE = "No node can take this virtual machine"
MOST_PRESSURE = 20.0
"""Per cent of the last 10 s. A node all of whose work waited longer than that for memory is busy moving pages, though
it may still say that some are available."""

Properties = Mapping[str, str]
"""Custom properties: value by key."""


@frozen
class Candidate:
    """A node as the placement saw it. Memory in bytes, processors in cores, pressure in per cent.

    @ivar alive: its lease has not run out.
    @ivar usable: memory for VMs.
    @ivar free: of that, what is not reserved by VMs bound to it.
    @ivar available: memory that was free when the node last looked, whoever uses the rest.
    @ivar idle: cores that had nothing to do then.
    @ivar hypervisor: name of its driver; L{None}: it has not said.
    @ivar cpu_pressure: of the last 10 s, how long some work waited for a processor; L{None}: unknown.
    @ivar memory_pressure: how long all of it waited for memory.
    @ivar properties: those of its own that the VM's rules name.
    @ivar company: how many VMs bound to it share the VM's value of a property that its rules name; 0 is left out.
    @ivar draining: it is to get empty.
    @ivar lacks: version of the VM's disk image, where the node does not see it in its storage.
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
    hypervisor: str | None = None
    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    properties: Properties = field(factory=dict)
    company: Mapping[str, int] = field(factory=dict)
    draining: bool = False
    lacks: str | None = None


@frozen
class Wanted:
    """What a VM asks of its node.

    @ivar memory: bytes.
    @ivar hypervisor: name of the driver that it needs; L{None}: any.
    @ivar require: properties that the node must have.
    @ivar prefer: properties that count in its favor.
    @ivar apart: properties of the VM; none of the node's VMs may share one.
    @ivar together: properties of the VM; one of the node's VMs must share each, once a VM anywhere does.
    """

    memory: int
    hypervisor: str | None = None
    require: Properties = field(factory=dict)
    prefer: Properties = field(factory=dict)
    apart: Properties = field(factory=dict)
    together: Properties = field(factory=dict)

    def seen_with(self, nodes: Sequence[Candidate]) -> Wanted:
        """The first VM of those that belong together goes anywhere."""
        bound = {key: value for key, value in self.together.items() if any(node.company.get(key) for node in nodes)}
        return evolve(self, together=bound)


@frozen
class Weights:
    """How much each part of the score counts: the keys C{l7r.loadbalancer.plugin.default.weight.*}, of which QVD 4.2
    has the first three, here on parts of the node's own size (0 to 1), so that memory and processors can be added up.

    @ivar prefer: of the part of the preferred properties that the node has.
    """

    ram: float = 1.0
    cpu: float = 1.0
    random: float = 1.0
    prefer: float = 1.0


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
    """The node, if any, with its name, and what was found of each.

    @ivar wanted: L{None} where C{problem}, a sentence, kept it from any node: then none was looked at.
    """

    host_id: HostId | None
    taken: str | None
    verdicts: Sequence[Verdict]
    wanted: Wanted | None = None
    problem: str | None = None

    def document(self) -> dict[str, Any]:
        """For the VM's row: what L{describe} reads."""
        return {
            "taken": self.taken,
            "wanted": self.wanted and asdict(self.wanted),
            "problem": self.problem,
            "nodes": [asdict(verdict) for verdict in self.verdicts],
        }

    @property
    def refusal(self) -> str:
        """The sentence for a user whose VM no node takes."""
        if self.problem is not None:
            return self.problem
        if not self.verdicts:
            return f"{NO_NODE}: none is registered"
        reasons = (f"{verdict.name} {verdict.rejection}" for verdict in self.verdicts)
        return f"{NO_NODE}: " + "; ".join(reasons)


# The filters. Each gives the reason, as what follows the node's name, or None.


def not_running(node: Candidate, wanted: Wanted) -> str | None:
    return None if node.state == "running" else f"is {node.state}"


def silent(node: Candidate, wanted: Wanted) -> str | None:
    return None if node.alive else "has shown no sign of life in time"


def blocked(node: Candidate, wanted: Wanted) -> str | None:
    return "is blocked for maintenance" if node.blocked else None


def draining(node: Candidate, wanted: Wanted) -> str | None:
    return "is being drained" if node.draining else None


def other_hypervisor(node: Candidate, wanted: Wanted) -> str | None:
    if wanted.hypervisor is None or wanted.hypervisor == node.hypervisor:
        return None
    runs = "has not said what it runs" if node.hypervisor is None else f"runs {node.hypervisor}"
    return f"{runs}, {wanted.hypervisor} is needed"


def lacks_image(node: Candidate, wanted: Wanted) -> str | None:
    return None if node.lacks is None else f"does not have image {node.lacks!r}"


def lacks_property(node: Candidate, wanted: Wanted) -> str | None:
    for key, value in wanted.require.items():
        has = node.properties.get(key)
        if has is None:
            return f"has no property {key}, {key}={value} is needed"
        if has != value:
            return f"has {key}={has}, {key}={value} is needed"
    return None


def company_to_avoid(node: Candidate, wanted: Wanted) -> str | None:
    for key, value in wanted.apart.items():
        if node.company.get(key):
            return f"has a VM with {key}={value} already, from which this one is kept apart"
    return None


def company_missing(node: Candidate, wanted: Wanted) -> str | None:
    for key, value in wanted.together.items():
        if not node.company.get(key):
            return f"has no VM with {key}={value}, with which this one is kept together"
    return None


def reserved(node: Candidate, wanted: Wanted) -> str | None:
    if node.free >= wanted.memory:
        return None
    return f"has {max(node.free, 0) // MIB} MiB free, {wanted.memory // MIB} MiB are needed"


def used(node: Candidate, wanted: Wanted) -> str | None:
    if node.available >= wanted.memory:
        return None
    return f"has {node.available // MIB} MiB left just now, {wanted.memory // MIB} MiB are needed"


def short_of_memory(node: Candidate, wanted: Wanted) -> str | None:
    if node.memory_pressure is None or node.memory_pressure <= MOST_PRESSURE:
        return None
    return f"is short of memory: all its work waited for {node.memory_pressure:.0f} % of 10 s"


RULES: Sequence[Callable[[Candidate, Wanted], str | None]] = (
    not_running,
    silent,
    blocked,
    draining,
    other_hypervisor,
    lacks_image,
    lacks_property,
    company_to_avoid,
    company_missing,
    reserved,
    used,
    short_of_memory,
)
"""In the order in which they are asked: the first reason is told."""


def rejection(node: Candidate, wanted: Wanted) -> str | None:
    """Why C{node} cannot take the VM, or L{None}."""
    for rule in RULES:
        reason = rule(node, wanted)
        if reason is not None:
            return reason
    return None


def met(node: Candidate, wanted: Wanted) -> int:
    """How many preferred properties the node has."""
    return sum(node.properties.get(key) == value for key, value in wanted.prefer.items())


def score(node: Candidate, wanted: Wanted, weights: Weights, chance: float) -> float:
    """More is better. Processors that are idle now and then, while work waits for them at other times, count less.

    @param chance: 0 to 1.
    """
    ram = min(node.free, node.available) / max(node.usable, 1)
    cpu = node.idle / max(node.cores, 1.0) * (1 - (node.cpu_pressure or 0.0) / 100)
    preferred = met(node, wanted) / max(len(wanted.prefer), 1)
    return weights.ram * ram + weights.cpu * cpu + weights.random * chance + weights.prefer * preferred


def decide(nodes: Sequence[Candidate], wanted: Wanted, weights: Weights, chance: Callable[[], float]) -> Decision:
    """Choose a node.

    @param chance: gives a number from 0 to 1, asked once for each node that is not rejected.
    """
    wanted = wanted.seen_with(nodes)
    best: Candidate | None = None
    highest = 0.0
    verdicts = []
    for node in nodes:
        why = rejection(node, wanted)
        points = 0.0 if why else score(node, wanted, weights, chance())
        if why is None and (best is None or points > highest):
            best, highest = node, points
        verdicts.append(Verdict(node.name, why, round(points, 4), asdict(node)))
    if best is None:
        return Decision(None, None, tuple(verdicts), wanted)
    return Decision(best.host_id, best.name, tuple(verdicts), wanted)
