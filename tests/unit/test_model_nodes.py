"""The table that administrators see."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from qvd.model.ids import HostId
from qvd.model.nodes import MIB, NodeSummary, table
from qvd.model.records import Drain, HostState

NODE = NodeSummary(
    host_id=HostId(1),
    name="node1",
    address="192.0.2.1",
    state=HostState.RUNNING,
    blocked=False,
    drain=None,
    decommissioned=False,
    lease_seconds=27.4,
    vms=3,
    sessions=2,
    usable=8192 * MIB,
    free=6656 * MIB,
    available=6000 * MIB,
    cores=8.0,
    idle=7.25,
)


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({}, "running"),
        ({"blocked": True}, "running, blocked"),
        ({"drain": Drain.WAIT}, "running, draining (wait)"),
        ({"drain": Drain.STOP, "blocked": True}, "running, blocked, draining (stop)"),
        ({"drain": Drain.STOP, "vms": 0, "state": HostState.STOPPED}, "stopped, drained"),
        ({"decommissioned": True, "drain": Drain.STOP}, "decommissioned"),
    ],
)
def test_the_condition(changes: dict[str, Any], condition: str) -> None:
    assert evolve(NODE, **changes).condition == condition


@pytest.mark.parametrize(("seconds", "lease"), [(None, "never"), (27.4, "27 s"), (0.0, "0 s"), (-3.0, "over")])
def test_the_lease(seconds: float | None, lease: str) -> None:
    assert evolve(NODE, lease_seconds=seconds).lease == lease


def test_the_table() -> None:
    assert table([NODE, evolve(NODE, name="n2", state=HostState.LOST, lease_seconds=-1.0, vms=0)]) == [
        "NODE   ADDRESS    STATE    LEASE  VMS  SESSIONS  FREE MiB  OF MiB  LEFT MiB  IDLE  OF CPUS",
        "node1  192.0.2.1  running  27 s     3         2      6656    8192      6000   7.2        8",
        "n2     192.0.2.1  lost     over     0         2      6656    8192      6000   7.2        8",
    ]
