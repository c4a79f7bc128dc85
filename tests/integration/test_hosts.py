"""The life of nodes, as an administrator leads it: with the commands, on real nodes and a real database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qvd.hkd.hypervisor.state import StateFolder
from tests.integration.farm import Client, Farm, OtherNode, eventually
from tests.integration.hastyfarm import hasty_farm

AGENT = "twisted qvd-vma"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with hasty_farm(tmp_path) as made:
        yield made


@pytest.fixture
def other(farm: Farm) -> Iterator[OtherNode]:
    """A machine that is no node yet."""
    made = OtherNode(farm, "n2", known=False)
    try:
        yield made
    finally:
        made.stop()


def run(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    words = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60)


def command(farm: Farm, *arguments: str) -> str:
    """C{qvd-node}, which must do it."""
    done = run("qvd-node", "--config", str(farm.folder / "node.conf"), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(folder: Path, *arguments: str, stdin: str = "") -> str:
    """C{qvd-node}, which must not do it."""
    done = run("qvd-node", "--config", str(folder / "node.conf"), *arguments, stdin=stdin)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def token(farm: Farm, *arguments: str) -> str:
    done = run("qvd-db", "enrolment-token", "--dsn", farm.installation.admin_dsn, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def enrol(farm: Farm, other: OtherNode) -> None:
    """Make it a node, and start it."""
    file = other.folder / "token"
    file.write_text(token(farm))
    done = run("qvd-node", "--config", str(other.folder / "node.conf"), "enrol", "--token-file", str(file))
    assert done.returncode == 0, done.stderr
    other.start()
    eventually(lambda: ping(other.client()) == 200, "the other node serves")


def status(farm: Farm, name: str) -> dict[str, Any]:
    (node,) = [node for node in json.loads(command(farm, "status", "--all", "--json")) if node["name"] == name]
    return dict(node)


def ping(client: Client) -> int:
    with client as wire:
        return wire.get("/qvd/ping").head.status


def connect(client: Client, vm_id: int) -> Client:
    """Up to the desktop."""
    response = client.connect(vm_id)
    assert response.head.status == 101, response
    return client


def place(farm: Farm, vm_id: int | None = None) -> str | None:
    """The node of a VM."""
    host = farm.vm(vm_id)["host_id"]
    return None if host is None else str(farm.rows("SELECT name FROM hosts WHERE id = %s", host)[0]["name"])


def test_from_enrolment_to_decommission(farm: Farm, other: OtherNode) -> None:
    vm_id = farm.credentials["vm_id"]
    assert "knows no such enrolment token" in refusal(other.folder, "enrol", "--token", "-", stdin="guessed")
    assert not (other.folder / "node.identity").exists(), "what was refused leaves nothing"
    enrol(farm, other)
    assert "n2" in command(farm, "status") and "decommissioned" not in command(farm, "status")
    wire = connect(farm.client(), vm_id)
    first, second = place(farm), {"demo": "n2", "n2": "demo"}[place(farm) or ""]
    assert first is not None
    # All of the first one's VMs are stopped, in order, and the client's next connect finds the other node.
    assert "gets no new VMs; 1 VMs are ordered to stop" in command(farm, "drain", "--stop", first)
    assert wire.closed()
    with connect(farm.client(), vm_id):
        assert place(farm) == second
    assert eventually(lambda: status(farm, first)["vms"] == 0, "the node is empty")
    assert "is being drained" in str(farm.rows("SELECT cause FROM events WHERE kind = 'vm.ordered'"))
    # Back, so that it is n2 that leaves.
    command(farm, "undrain", first)
    command(farm, "drain", "--stop", "n2")
    eventually(lambda: status(farm, "n2")["vms"] == 0, "n2 is empty")
    assert "is running: stop its daemon first" in refusal(farm.folder, "decommission", "n2")
    assert other.node is not None
    other.node.stop()
    other.node = None
    eventually(lambda: status(farm, "n2")["sessions"] == 0, "its sessions have ended")
    command(farm, "decommission", "n2")
    assert status(farm, "n2")["decommissioned"]
    assert "n2" not in command(farm, "status")
    # Its daemon is no node any more, and says so.
    daemon = subprocess.Popen(
        [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "qvd-node", "--config", "node.conf"],
        cwd=other.folder,
        stdout=(other.folder / "late.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        late = other.folder / "late.log"
        eventually(lambda: "The node 'n2' was decommissioned at" in late.read_text(), "the log says why")
    finally:
        daemon.terminate()
        daemon.wait(30)
    # And the name is free.
    enrol(farm, other)
    assert status(farm, "n2")["state"] == "running"
    kinds = [row["kind"] for row in farm.rows("SELECT kind FROM events WHERE kind LIKE 'host.%%' ORDER BY id")]
    for kind in ("host.token", "host.enrolled", "host.drained", "host.undrained", "host.decommissioned"):
        assert kind in kinds, kind
    assert "Traceback" not in farm.log + other.log


def test_drain_that_waits_and_block(farm: Farm, other: OtherNode) -> None:
    vm_id = farm.credentials["vm_id"]
    (second,) = farm.rows("SELECT id FROM vms WHERE name = 'second'")
    with connect(farm.client(), vm_id):
        assert place(farm) == "demo"
        enrol(farm, other)
        command(farm, "drain", "demo")
        # Nothing new there, though clients come through it, and what runs goes on.
        with connect(farm.client(), second["id"]):
            assert place(farm, second["id"]) == "n2"
        assert (farm.vm()["vm_state"], place(farm)) == ("running", "demo")
        assert status(farm, "demo")["vms"] == 1
        # A blocked node turns clients away at once; its VM is reached through the other one.
        command(farm, "block", "demo")
        eventually(lambda: ping(farm.client()) == 503, "the blocked node turns clients away")
        assert "blocked" in command(farm, "status")
    with connect(other.client(), vm_id):
        assert place(farm) == "demo"
    command(farm, "unblock", "demo")
    eventually(lambda: ping(farm.client()) == 200, "it serves again")
    with other.client() as wire:
        assert wire.get(f"/qvd/stop_vm?id={vm_id}").head.status == 200
    assert status(farm, "demo")["vms"] == 0
    assert "drained" in command(farm, "status")
    with connect(other.client(), vm_id):
        assert place(farm) == "n2"
    assert "Traceback" not in farm.log + other.log


def silence(farm: Farm) -> list[psutil.Process]:
    """All that a node runs is stopped as it stands, as if its machine were gone: nobody hangs up. Return it."""
    assert farm.node is not None
    found = [psutil.Process(farm.node.process.pid)]
    found += [process for process in psutil.process_iter() if is_watchdog(process, farm.run)]
    states = StateFolder(farm.run)
    for vm_id in states.ids():
        state = states.read(vm_id)
        assert state is not None and state.supervisor is not None
        supervisor = psutil.Process(state.supervisor.pid)
        found += [supervisor, *supervisor.children(recursive=True)]
    for process in found:
        process.send_signal(signal.SIGSTOP)
    return found


def is_watchdog(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any("watchdog_launch" in word for word in words) and any(str(folder) in word for word in words)


def test_a_session_through_another_node_ends_with_the_node_of_its_vm(farm: Farm, other: OtherNode) -> None:
    """TCP alone would take minutes."""
    vm_id = farm.credentials["vm_id"]
    wire = connect(farm.client(), vm_id)
    wire.close()
    assert place(farm) == "demo"
    enrol(farm, other)
    wire = connect(other.client(), vm_id)
    assert len(farm.guest_processes(AGENT)) == 1
    stopped = silence(farm)
    try:
        assert any("watchdog" in " ".join(process.cmdline()) for process in stopped)
        assert wire.closed()
        eventually(lambda: status(farm, "demo")["state"] == "lost", "it is lost")
        session = farm.rows("SELECT end_reason FROM sessions ORDER BY started_at DESC LIMIT 1")[0]
        assert session["end_reason"] == "The node demo, on which this desktop ran, does not answer any more"
    finally:
        for process in stopped:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
    eventually(lambda: farm.guest_processes(AGENT) == [], "its guest is dead")
