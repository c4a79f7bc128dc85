"""A node is upgraded while it is at work: nobody is refused, and no desktop ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qvd.demo.installation import DemoError, NodeProcess, daemons
from tests.conftest import require
from tests.integration.desktop import Desktop, desktop_farm, nxagents
from tests.integration.farm import Client, Farm, display, eventually
from tests.integration.screen import look, type_line

LEASE = 12.0
FAILED = "the new daemon has failed; this one goes on"
NEW = """
# A new daemon that asks for everything, and then does nothing, or less.
import socket, sys, time
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(b'{"kind": "hand_over", "instance": "00000000-0000-4000-8000-000000000000"}\\n')
data, sockets = b"", []
while not data.endswith(b"\\n"):
    more, descriptors, *_ = socket.recv_fds(line, 65536, 16)
    data, sockets = data + more, sockets + descriptors
print(len(sockets), flush=True)
if sys.argv[2] == "hang":
    time.sleep(600)
"""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with desktop_farm(tmp_path, {"hkd.lease": LEASE, "hkd.heartbeat": 2.0}) as made:
        yield made


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    require("Xvfb", "nxproxy", "xwd", "xdotool")
    with display() as name:
        yield name


def session(farm: Farm, session_id: str) -> dict[str, Any]:
    (row,) = farm.rows("SELECT * FROM sessions WHERE id = %s", session_id)
    return row


def host(farm: Farm) -> dict[str, Any]:
    return farm.rows("SELECT * FROM host_runtimes")[0]


def works(farm: Farm, screen: str, name: str) -> None:
    """The desktop hears what is typed, and shows it."""
    before = look(screen).pixels
    for _ in range(10):
        type_line(screen, 100, 100, f"touch ~/{name}")
        if any((farm.folder / "homes").rglob(name)):
            break
        time.sleep(1)
    else:
        raise AssertionError(f"{name}: nothing reaches the desktop")
    eventually(lambda: look(screen).pixels != before, f"{name}: nothing of it is seen")


def connected(farm: Farm, vm_id: int, client: Client | None = None) -> tuple[Client, str]:
    """A client that has its desktop, and its session."""
    client = client or farm.client()
    assert client.connect(vm_id).head.status == 101
    (row,) = farm.rows("SELECT session_id::text FROM vm_runtimes WHERE vm_id = %s", vm_id)
    return client, row["session_id"]


def second(farm: Farm) -> int:
    return int(farm.rows("SELECT id FROM vms WHERE name = 'second'")[0]["id"])


def lives(client: Client) -> bool:
    """The connection has not been ended."""
    client.socket.setblocking(False)
    try:
        return bool(client.socket.recv(1 << 16))
    except OSError as error:
        return "did not complete" in str(error) or isinstance(error, BlockingIOError)
    finally:
        client.socket.settimeout(30)


def ended(node: NodeProcess) -> int:
    """How a former daemon ends, by itself."""
    return int(eventually(lambda: node.process.poll() is not None and node.process.returncode + 1, "it ends", 60)) - 1


def test_a_desktop_goes_on(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    held = desktop.session()
    agents = nxagents(farm)
    works(farm, screen, "before")
    epoch = host(farm)["epoch"]
    former = farm.upgrade_node()
    assert host(farm)["epoch"] == epoch + 1
    assert len(daemons(farm.run)) == 2
    works(farm, screen, "after")
    with farm.client() as wire:
        assert wire.get("/qvd/ping").head.status == 200
        assert len(wire.list()) == 2
    # Without the successor's renewals the fence would have fallen by then.
    time.sleep(LEASE)
    works(farm, screen, "later")
    assert former.process.poll() is None and desktop.process.poll() is None
    assert desktop.session() == held
    assert session(farm, held)["state"] == "connected"
    assert nxagents(farm) == agents
    row = farm.vm()
    assert (row["vm_state"], row["host_epoch"]) == ("running", epoch + 1)
    newer = Desktop(farm, screen)
    eventually(lambda: newer.session() not in ("", held), "the newer client has it")
    assert "Another client has taken" in session(farm, held)["end_reason"]
    eventually(lambda: desktop.process.poll() is not None, "the older client is closed")
    assert ended(former) == 0
    assert nxagents(farm) == agents
    newer.close()
    desktop.close()
    assert "Traceback" not in farm.log


def test_one_that_had_logged_in_connects_after_the_upgrade(farm: Farm) -> None:
    with farm.client() as wire:
        assert len(wire.list()) == 2
        former = farm.upgrade_node()
        _, held = connected(farm, second(farm), wire)
        assert session(farm, held)["host_epoch"] == host(farm)["epoch"]
        assert session(farm, held)["state"] == "connected"
        assert farm.vm(second(farm))["vm_state"] == "running"
        assert lives(wire)
    eventually(lambda: session(farm, held)["ended_at"], "the session ends with its client")
    assert ended(former) == 0


@pytest.mark.parametrize("conduct", ["end", "hang"])
def test_a_new_daemon_that_fails_leaves_all_as_it_was(farm: Farm, conduct: str) -> None:
    assert farm.node is not None
    wire, held = connected(farm, second(farm))
    epoch = host(farm)["epoch"]
    words = [sys.executable, "-c", NEW, str(farm.run / "control"), conduct]
    new = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    with farm.client() as waiting:
        assert waiting.get("/qvd/ping").head.status == 200
        assert new.communicate(timeout=60)[0] == "2\n"
        assert new.returncode == (0 if conduct == "end" else -signal.SIGKILL)
        eventually(lambda: FAILED in farm.log and host(farm)["epoch"] == epoch + 1, "it goes on")
        assert waiting.get("/qvd/ping").head.status == 200
    with farm.client() as fresh:
        assert len(fresh.list()) == 2
        connected(farm, farm.credentials["vm_id"], fresh)
    assert lives(wire)
    assert session(farm, held)["state"] == "connected"
    assert farm.vm(second(farm))["host_epoch"] == epoch + 1
    farm.upgrade_node()
    assert lives(wire)
    wire.close()


def test_one_that_cannot_start_does_not_even_ask(farm: Farm) -> None:
    assert farm.node is not None
    conf = farm.folder / "node.conf"
    text = conf.read_text()
    conf.write_text(text.replace("cert.pem", "none.pem"))
    new = NodeProcess(farm.folder)
    with pytest.raises(DemoError, match="ended with status 78"):
        new.await_ready()
    conf.write_text(text)
    assert host(farm)["epoch"] == 1
    assert daemons(farm.run) == [farm.node.process.pid]


def test_two_upgrades_in_a_row(farm: Farm) -> None:
    first, held_first = connected(farm, farm.credentials["vm_id"])
    oldest = farm.upgrade_node()
    between, held_between = connected(farm, second(farm))
    older = farm.upgrade_node()
    assert len(daemons(farm.run)) == 3
    # On the last word of the one that followed it none of the former daemons could live so long.
    time.sleep(LEASE)
    assert lives(first) and lives(between)
    assert session(farm, held_first)["state"] == session(farm, held_between)["state"] == "connected"
    first.close()
    assert ended(oldest) == 0
    assert older.process.poll() is None
    between.close()
    assert ended(older) == 0
    eventually(lambda: not farm.rows("SELECT 1 FROM sessions WHERE ended_at IS NULL"), "both sessions have ended")
    assert "Traceback" not in farm.log


def test_what_a_killed_one_left_open_is_ended(farm: Farm) -> None:
    wire, held = connected(farm, second(farm))
    former = farm.upgrade_node()
    other, kept = connected(farm, farm.credentials["vm_id"])
    former.process.kill()
    former.process.wait()
    assert wire.closed()
    assert eventually(lambda: session(farm, held)["end_reason"], "its row is closed") == "The node was restarted"
    assert lives(other) and session(farm, kept)["state"] == "connected"
    assert farm.vm(second(farm))["vm_state"] == "running"
    other.close()


def test_a_former_one_outlives_a_crash_of_the_new_one(farm: Farm) -> None:
    wire, held = connected(farm, second(farm))
    former = farm.upgrade_node()
    farm.kill_node()
    farm.start_node()
    assert host(farm)["epoch"] == 3
    time.sleep(LEASE)
    assert lives(wire) and former.process.poll() is None
    assert session(farm, held)["state"] == "connected"
    wire.close()
    assert ended(former) == 0


def test_a_stop_of_the_node_is_one_of_all_its_daemons(farm: Farm) -> None:
    wire, held = connected(farm, second(farm))
    former = farm.upgrade_node()
    assert farm.node is not None
    farm.node.stop()
    assert wire.closed()
    assert ended(former) == 0
    assert daemons(farm.run) == []
    assert session(farm, held)["end_reason"] == "The node is being stopped"
    assert farm.vm(second(farm))["vm_state"] == "stopped"


def test_a_deadline_ends_the_last_sessions(tmp_path: Path) -> None:
    require("bwrap", "nxagent", "xterm")
    made = Farm(tmp_path, overrides={"hkd.upgrade.drain": 2.0})
    made.start()
    try:
        wire, held = connected(made, second(made))
        former = made.upgrade_node()
        assert wire.closed()
        assert "The node was upgraded" in eventually(lambda: session(made, held)["end_reason"], "it has ended")
        assert ended(former) == 0
        assert made.vm(second(made))["vm_state"] == "running"
    finally:
        made.stop()


def test_a_hangup_signal_upgrades(farm: Farm) -> None:
    assert farm.node is not None
    node = farm.node
    wire, held = connected(farm, second(farm))
    os.kill(node.process.pid, signal.SIGHUP)
    eventually(lambda: len(daemons(farm.run)) == 2 and host(farm)["pid"] != node.process.pid, "another one serves")
    with farm.client() as fresh:
        assert len(fresh.list()) == 2
    assert lives(wire) and session(farm, held)["state"] == "connected"
    wire.close()
    assert ended(node) == 0
    assert daemons(farm.run) == [host(farm)["pid"]]
