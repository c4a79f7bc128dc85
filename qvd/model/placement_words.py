# -*- test-case-name: tests.unit.test_model_placement -*-
"""A stored decision (L{qvd.model.placement.Decision.document}) in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qvd.model.placement import MIB

WISHES = (
    ("require", "a node with"),
    ("prefer", "if possible a node with"),
    ("apart", "no VM beside it with"),
    ("together", "a VM beside it with"),
)


def describe(document: Mapping[str, Any], figures: bool = True) -> list[str]:
    """What was asked for, where that is more than memory, and then a line a node. Decisions of older releases lack
    what those did not look at.

    @param figures: tell what each node had.
    """
    wanted = document.get("wanted") or {}
    lines = [f"needs {'; '.join(wishes)}"] if (wishes := list(wishes_of(wanted))) else []
    if document.get("problem"):
        lines.append(f"no node was looked at. {document['problem']}")
    for verdict in document["nodes"]:
        name, had = verdict["name"], f" ({'; '.join(figures_of(verdict['inputs']))})" if figures else ""
        if verdict["rejection"]:
            lines.append(f"{name}: rejected: it {verdict['rejection']}{had}")
        else:
            mark = ", the highest: taken" if name == document["taken"] else ""
            lines.append(f"{name}: score {verdict['score']:.2f}{mark}{had}")
    return lines


def wishes_of(wanted: Mapping[str, Any]) -> Iterator[str]:
    if wanted.get("hypervisor"):
        yield f"hypervisor {wanted['hypervisor']}"
    for name, words in WISHES:
        if wanted.get(name):
            yield f"{words} {pairs(wanted[name])}"


def figures_of(inputs: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{max(inputs['free'], 0) // MIB} of {inputs['usable'] // MIB} MiB not reserved,"
        f" {inputs['available'] // MIB} MiB left, {inputs['idle']:.1f} of {inputs['cores']:g} cores idle"
    )
    pressures = [
        f"{part} {inputs[key]:.1f} %"
        for part, key in (("processors", "cpu_pressure"), ("memory", "memory_pressure"))
        if inputs.get(key) is not None
    ]
    if pressures:
        yield f"pressure: {', '.join(pressures)}"
    if inputs.get("hypervisor"):
        yield f"runs {inputs['hypervisor']}"
    if inputs.get("properties"):
        yield f"has {pairs(inputs['properties'])}"
    if inputs.get("company"):
        yield "VMs with the same " + ", ".join(f"{key}: {count}" for key, count in inputs["company"].items())


def pairs(properties: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in properties.items())
