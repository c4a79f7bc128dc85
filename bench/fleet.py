"""What a large farm asks of its database, and how soon a node hears of an order: simulated farms of real daemons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.children import BenchError
from bench.report import emit

SCENARIOS = Path(__file__).parent / "scenarios"
SHIPPED = Path(__file__).parents[1] / "etc/qvd/scenarios"
CHILD_SECONDS = 280


def simulate(scenario: Path) -> dict[str, Any]:
    """Run it, and return its figures.

    @raise BenchError: something happened in it that must never happen.
    """
    child = subprocess.run(
        [str(Path(sys.executable).with_name("qvd-sim")), "run", str(scenario), "--json", "--quiet"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=CHILD_SECONDS,
        text=True,
    )
    if child.returncode:
        raise BenchError(f"{scenario.name} ended with status {child.returncode}:\n{child.stdout}")
    document: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return document


def idle_queries() -> None:
    """Statements a second of a node of whose VMs nobody wants anything."""
    for vms in (10, 1000):
        queries = simulate(SCENARIOS / f"idle-{vms}.toml")["queries_per_s_per_node"]
        emit("idle_queries_per_second", queries["mean"], "1/s", vms=vms, peak=queries["peak"])


def reaction() -> None:
    """From the event of an order to that of its being taken up by another node, by the database's clock."""
    document = simulate(SCENARIOS / "reaction.toml")
    figures = document["reaction_s"]
    emit(
        "reaction_ms",
        round(figures["p99"] * 1000, 1),
        "ms",
        quantile="p99",
        median=round(figures["p50"] * 1000, 1),
        longest=round(figures["max"] * 1000, 1),
        orders=figures["count"],
        nodes=document["nodes"],
        vms=document["vms"],
    )


def burst() -> None:
    """1,000 connect requests in 10 s on 20 nodes, in virtual time: none refused, each told its position."""
    document = simulate(SHIPPED / "burst.toml")
    queued, times = document["queued"], document["time_to_desktop_s"]
    emit(
        "burst_time_to_desktop_s",
        times["p99"],
        "s",
        quantile="p99",
        median=times["p50"],
        desktops=document["desktops"],
        refused=sum(document["refused"].values()),
        queued=queued["clients"],
        told_their_position=queued["told_their_position"],
        overtaken=queued["overtaken"],
        violations=document["violations"],
        overbooked=document["overbooked"],
    )


FIGURES = {"idle_queries": idle_queries, "reaction": reaction, "burst": burst}
