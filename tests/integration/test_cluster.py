"""Two nodes on one database: what one had goes on at the other when it dies or hangs, and nothing runs twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qvd.protocols.l7r import VM_INFO
from tests.integration.farm import Client, Farm, OtherNode, eventually
from tests.integration.hastyfarm import LEASE, MARGIN, hasty_farm

AGENT = "twisted qvd-vma"
FENCED = "may not run VMs any more"
FENCE = 0.75
"""After this part of its lease a node ends its VMs."""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with hasty_farm(tmp_path) as made:
        yield made


@pytest.fixture
def other(farm: Farm) -> Iterator[OtherNode]:
    made = OtherNode(farm, "n2")
    try:
        yield made
    finally:
        made.stop()


def host(farm: Farm, name: str) -> dict[str, Any]:
    return farm.rows("SELECT r.* FROM host_runtimes r JOIN hosts h ON h.id = r.host_id WHERE h.name = %s", name)[0]


def at_work(farm: Farm, name: str) -> int:
    """The epoch of a node that runs, or 0."""
    row = host(farm, name)
    return int(row["epoch"]) if row["state"] == "running" else 0


def guests(farm: Farm, other: OtherNode) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The agents of the guests of both nodes."""
    return farm.guest_processes(AGENT), farm.guest_processes(AGENT, other.run)


def home(process: psutil.Process) -> Path:
    """The user's home, as a process of the guest sees it."""
    return Path(f"/proc/{process.pid}/root/home/alice")


def serves(node: OtherNode) -> bool:
    with node.client() as wire:
        return wire.get("/qvd/ping").head.status == 200


def connect(client: Client, vm_id: int) -> str:
    """Go all the way to the desktop; return what was told meanwhile."""
    client.send_connect(vm_id)
    told = []
    while (response := client.receive()).head.status == 102:
        told.append(response.head.header(VM_INFO) or "")
    assert response.head.status == 101, response
    return "\n".join(told)


def test_a_dead_node(farm: Farm, other: OtherNode) -> None:
    vm_id = farm.credentials["vm_id"]
    with farm.client() as wire:
        connect(wire, vm_id)
        (before,) = farm.guest_processes(AGENT)
        (home(before) / "letter").write_text("to be continued")
        other.start()
        epoch = host(farm, "demo")["epoch"]
        farm.kill_machine()
        assert wire.closed()
    eventually(lambda: not before.is_running(), "the guest is dead")
    eventually(lambda: host(farm, "demo")["state"] == "lost", "the dead node is lost")
    row = farm.vm()
    assert (row["vm_state"], row["host_id"]) == ("stopped", None)
    assert row["last_error"] == "The node demo, on which this desktop ran, does not answer any more"
    (session,) = farm.rows("SELECT * FROM sessions")
    assert session["end_reason"] == "The node demo, which served this session, does not answer any more"
    with other.client() as wire:
        connect(wire, vm_id)
        nothing, (after,) = guests(farm, other)
        assert nothing == []
        assert (home(after) / "letter").read_text() == "to be continued"
        assert farm.vm()["host_id"] == host(farm, "n2")["host_id"]
        farm.start_node()
        assert host(farm, "demo")["epoch"] == epoch + 1
        eventually(lambda: not list((farm.run / "vms").iterdir()), "what the dead node left is removed")
        assert guests(farm, other) == ([], [after])
        row = farm.vm()
        assert (row["vm_state"], row["host_id"]) == ("running", host(farm, "n2")["host_id"])
        with farm.client() as through_the_first:
            connect(through_the_first, vm_id)
            assert guests(farm, other) == ([], [after])
    assert other.log.count("node demo is lost: 1 VMs and 1 sessions") == 1
    assert "Traceback" not in farm.log + other.log


def test_a_node_that_hangs_with_an_order(farm: Farm, other: OtherNode) -> None:
    """Its guests are another matter: it has none here."""
    (second,) = farm.rows("SELECT id FROM vms WHERE name = 'second'")
    assert farm.node is not None
    farm.rows("UPDATE host_runtimes SET blocked = true")
    other.start()
    farm.rows("UPDATE host_runtimes SET blocked = false WHERE host_id = %s", host(farm, "n2")["host_id"])
    eventually(lambda: serves(other), "the other node serves")
    with other.client() as wire:
        connect(wire, farm.credentials["vm_id"])
    # The other node has a VM now, so the one that is to hang has more room.
    assert farm.vm()["host_id"] == host(farm, "n2")["host_id"]
    farm.rows("UPDATE host_runtimes SET blocked = false")
    epoch = host(farm, "demo")["epoch"]
    os.kill(farm.node.process.pid, signal.SIGSTOP)
    try:
        with other.client() as wire:
            told = connect(wire, second["id"])
        assert "The node demo, on which this desktop was to start, does not answer any more" in told
        assert farm.vm(second["id"])["host_id"] == host(farm, "n2")["host_id"]
        assert host(farm, "demo")["state"] == "lost"
    finally:
        os.kill(farm.node.process.pid, signal.SIGCONT)
    eventually(lambda: host(farm, "demo")["state"] == "running", "it is back")
    assert host(farm, "demo")["epoch"] == epoch + 1
    nothing, both = guests(farm, other)
    assert (nothing, len(both)) == ([], 2)
    assert "Traceback" not in farm.log + other.log


def test_a_database_that_is_away_for_longer_than_a_lease(farm: Farm, other: OtherNode) -> None:
    """Then every lease looks over, and the first node that is back could take everything."""
    other.start()
    vm_id = farm.credentials["vm_id"]
    with farm.client() as wire:
        connect(wire, vm_id)
        epochs = [at_work(farm, name) for name in ("demo", "n2")]
        farm.installation.postgres.stop("immediate")
        try:
            eventually(lambda: FENCED in farm.log and FENCED in other.log, "both have noticed")
            assert wire.closed(), "a node that is lost serves nobody"
            eventually(lambda: guests(farm, other) == ([], []), "the guest is dead")
            # Lease and margin, from before the stop on, are over by then.
            time.sleep(LEASE + MARGIN - LEASE * FENCE + 1)
        finally:
            farm.installation.postgres.start()
    eventually(
        lambda: [at_work(farm, name) for name in ("demo", "n2")] == [epoch + 1 for epoch in epochs], "both are back"
    )
    assert farm.rows("SELECT 1 FROM events WHERE kind = 'host.lost'") == []
    assert "ended while its node was down" in eventually(lambda: farm.vm()["last_error"], "its node has released it")
    with other.client() as wire:
        connect(wire, vm_id)
        assert sum(map(len, guests(farm, other))) == 1
