"""More starts than a node takes at a time, and a VM that does not come up whatever one tries: on a real node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import argon2
import psutil
import pytest

from qvd.protocols.l7r import VM_INFO
from tests.conftest import require
from tests.integration.desktop import SESSION
from tests.integration.farm import Client, Farm, eventually

AGENT = "twisted qvd-vma"
MEMORY = 64 << 20
PASSWORD = "correct horse"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    require("bwrap", "nxagent", "xterm")
    program = tmp_path / "session"
    program.write_text(SESSION)
    program.chmod(0o755)
    made = Farm(tmp_path, program, {"hkd.stop.vms": True, "hkd.slots.boot": 1, "hkd.watch.interval": 1.0})
    made.start()
    try:
        made.rows("UPDATE osfs SET memory = %s", MEMORY)
        yield made
    finally:
        made.stop()


def new_vm(farm: Farm, login: str, name: str) -> int:
    (row,) = farm.rows(
        "INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT u.tenant_id, u.id, o.id, %s"
        " FROM users u JOIN osfs o ON o.tenant_id = u.tenant_id WHERE u.login = %s RETURNING id",
        name,
        login,
    )
    return int(row["id"])


def new_tenant(farm: Farm, name: str, login: str) -> None:
    """With one user, and the same image as the demo's."""
    tenant = farm.rows("INSERT INTO tenants (name) VALUES (%s) RETURNING id", name)[0]["id"]
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    farm.rows("INSERT INTO users (tenant_id, login, password) VALUES (%s, %s, %s)", tenant, login, hashed)
    osf = farm.rows("INSERT INTO osfs (tenant_id, name, memory) VALUES (%s, 'desk', %s) RETURNING id", tenant, MEMORY)[
        0
    ]["id"]
    image = farm.rows(
        "INSERT INTO dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '1') RETURNING id", tenant, osf
    )[0]["id"]
    farm.rows("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", osf, image)


def agents(farm: Farm) -> set[psutil.Process]:
    return set(farm.guest_processes(AGENT))


def told_until(client: Client, word: str) -> str:
    """Read what the client is told, until it is about C{word}."""
    while True:
        response = client.receive()
        text = response.head.header(VM_INFO) or ""
        assert response.head.status == 102, response
        if word in text:
            return text


def place(number: int) -> str:
    return f"Position {number} in the queue of node demo, waiting to boot"


def test_more_starts_than_the_node_boots_at_a_time(farm: Farm) -> None:
    new_tenant(farm, "umbrella", "bob")
    desktop, second = (row["id"] for row in farm.rows("SELECT id FROM vms ORDER BY id"))
    third, fourth, bobs = new_vm(farm, "alice", "third"), new_vm(farm, "alice", "fourth"), new_vm(farm, "bob", "only")
    with (
        farm.client() as runs,
        farm.client() as boots,
        farm.client() as waits,
        farm.client() as last,
        farm.client("bob@umbrella", PASSWORD) as bob,
        farm.client() as stops,
    ):
        assert runs.connect(second).head.status == 101
        before = agents(farm)
        boots.send_connect(desktop)
        (booting,) = eventually(lambda: agents(farm) - before, "a guest that boots")
        booting.suspend()
        try:
            waits.send_connect(third)
            told_until(waits, place(1))
            last.send_connect(fourth)
            told_until(last, place(2))
            # One tenant's third desktop waits behind another one's first.
            bob.send_connect(bobs)
            told_until(bob, place(2))
            told_until(last, place(3))
            assert farm.vm(desktop)["phase"] == "waiting for the guest"
            # Neither the stop of one that runs nor that of one that waits waits for a boot.
            assert stops.get(f"/qvd/stop_vm?id={second}").head.status == 200
            assert stops.get(f"/qvd/stop_vm?id={fourth}").head.status == 200
            assert last.final().head.status == 503
            assert [farm.vm(vm_id)["vm_state"] for vm_id in (second, fourth)] == ["stopped", "stopped"]
            assert [farm.vm(vm_id)["phase"] for vm_id in (third, bobs)] == ["queued to boot"] * 2
        finally:
            booting.resume()
        for client in (boots, waits, bob):
            assert client.final().head.status == 101
    ran = [row["vm_id"] for row in farm.rows("SELECT vm_id FROM events WHERE kind = 'vm.running' ORDER BY id")]
    assert ran == [second, desktop, third, bobs]
    assert "Traceback" not in farm.log


def test_a_daemon_that_dies_with_a_queue(farm: Farm) -> None:
    desktop, second = (row["id"] for row in farm.rows("SELECT id FROM vms ORDER BY id"))
    with farm.client() as boots, farm.client() as waits:
        boots.send_connect(desktop)
        (booting,) = eventually(lambda: agents(farm), "a guest that boots")
        booting.suspend()
        try:
            waits.send_connect(second)
            told_until(waits, place(1))
            farm.kill_node()
            farm.start_node()
        finally:
            booting.resume()
    eventually(lambda: [farm.vm(vm_id)["vm_state"] for vm_id in (desktop, second)] == ["running"] * 2, "both run")
    assert booting in agents(farm), "the one that booted went on"
    assert "Traceback" not in farm.log


def crash(farm: Farm, vm_id: int) -> None:
    """A start whose guest ends as soon as it is there."""
    failures = farm.vm(vm_id)["failures"]
    with farm.client() as wire:
        wire.send_connect(vm_id)
        (agent,) = eventually(lambda: agents(farm), "a guest")
        agent.kill()
        assert wire.final().head.status >= 500
    eventually(lambda: farm.vm(vm_id)["failures"] == failures + 1, "the failure is counted")


def ask_node(farm: Farm, *words: str) -> str:
    program = Path(sys.executable).with_name("qvd-node")
    done = subprocess.run(
        [str(program), "--config", str(farm.folder / "node.conf"), *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_vm_that_crashes_at_each_boot(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    for _ in range(3):
        crash(farm, vm_id)
    # More time than the rest of this test takes.
    farm.rows("UPDATE vm_runtimes SET retry_at = now() + interval '1 hour' WHERE vm_id = %s", vm_id)
    with farm.client() as wire:
        refused = wire.connect(vm_id)
    assert refused.head.status == 503
    assert b"has failed 3 times in a row" in refused.body
    assert b"The last time: The virtual machine ended by itself" in refused.body
    assert 3000 < int(refused.head.header("Retry-After") or "") <= 3600
    assert agents(farm) == set()
    told = ask_node(farm, "explain", str(vm_id))
    assert "has failed 3 times in a row: may be started in" in told
    assert ask_node(farm, "reset", str(vm_id)) == f"VM {vm_id} may be started\n"
    assert "has failed" not in ask_node(farm, "explain", str(vm_id))
    with farm.client() as wire:
        assert wire.connect(vm_id).head.status == 101
    with farm.client() as wire:
        assert wire.get(f"/qvd/stop_vm?id={vm_id}").head.status == 200
    assert farm.vm()["failures"] == 0
    (event,) = farm.rows("SELECT * FROM events WHERE kind = 'vm.reset'")
    assert event["cause"] == "qvd-node reset"
