# -*- test-case-name: tests.unit.test_sim_report -*-
"""The report of a run, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def _times(figures: Mapping[str, float]) -> str:
    if not figures.get("count"):
        return "none"
    return (
        f"p50 {figures['p50']:.2f} s, p95 {figures['p95']:.2f} s, p99 {figures['p99']:.2f} s,"
        f" longest {figures['max']:.2f} s ({figures['count']:.0f})"
    )


def _lines(document: Mapping[str, Any], accounts: list[str]) -> Iterator[str]:
    yield document["scenario"]
    yield (
        f"  {document['nodes']} nodes, {document['vms']} VMs, {document['logins']} users;"
        f" {document['simulated_s']:.0f} s of {document['clock']} time took {document['real_s']:.0f} s"
    )
    yield f"Time to desktop:    {_times(document['time_to_desktop_s'])}"
    for phase, figures in document["phases_s"].items():
        yield f"  {phase + ':':<18}{_times(figures)}"
    yield f"Desktops:           {document['desktops']}, {document['cut_off']} of them cut off by a failure"
    yield f"Users without one:  {document['users_without_desktop']}"
    yield f"Refused:            {sum(document['refused'].values())} requests"
    for reason, number in document["refused"].items():
        yield f"  {number:>6}  {reason}"
    queued = document["queued"]
    yield f"Queued:             {queued['clients']} clients, {queued['told_their_position']} told their position,"
    yield f"                    {queued['overtaken']} overtaken by a later one of their tenant at their node"
    for phase, number in queued["most_waiting"].items():
        yield f"  at most {number:>5} {phase}"
    per_node = document["vms_per_node"]
    yield f"VMs on a node:      at most {per_node['peak']}; {per_node['least_peak']} on the node with the lowest peak"
    queries = document["queries_per_s_per_node"]
    yield f"Database:           {queries['mean']:.1f} queries/s a node on average, {queries['peak']:.1f} at the peak"
    if document["reaction_s"] is not None:
        yield f"Reaction to orders: {_times(document['reaction_s'])}"
    leftovers = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in document["leftovers"].items())
    yield f"Left over:          {leftovers or 'nothing'}"
    yield f"Internal errors:    {document['internal_errors']}"
    yield (
        f"Violations:         {document['violations']} (one VM or home on two nodes),"
        f" {document['overbooked']} nodes above their memory, {document['wrong_desktops']} wrong desktops"
    )
    yield from (f"  {account}" for account in accounts)


def text(document: Mapping[str, Any], accounts: list[str]) -> str:
    """For people.

    @param document: of L{qvd.sim.record.Record.document}.
    @param accounts: of violations.
    """
    return "\n".join(_lines(document, accounts))


def is_good(document: Mapping[str, Any]) -> bool:
    """Nothing happened that must never happen."""
    return not (
        document["violations"] or document["overbooked"] or document["wrong_desktops"] or document["internal_errors"]
    )
