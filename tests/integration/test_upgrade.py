"""A node is upgraded while it is at work: nobody is refused, and no desktop ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qvd.demo.installation import NodeProcess, daemons
from tests.conftest import require
from tests.integration.desktop import Desktop, desktop_farm, nxagents
from tests.integration.farm import Farm, display, eventually

SERVES = "another daemon serves; this one keeps the clients it has"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with desktop_farm(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    require("Xvfb", "nxproxy")
    with display() as name:
        yield name


def session(farm: Farm, session_id: str) -> dict[str, object]:
    (row,) = farm.rows("SELECT * FROM sessions WHERE id = %s", session_id)
    return row


def epoch(farm: Farm) -> int:
    return int(farm.rows("SELECT epoch FROM host_runtimes")[0]["epoch"])


def moved(desktop: Desktop) -> int:
    """Bytes that the client has exchanged with its node, as the kernel counts them."""
    counters = psutil.Process(desktop.process.pid).io_counters()
    return int(counters.read_chars + counters.write_chars)


def draw(farm: Farm) -> None:
    """Have the desktop's terminal show something new, so that bytes flow."""
    for process in farm.guest_processes("xterm -geometry"):
        for terminal in {file.path for child in process.children() for file in child.open_files()}:
            if terminal.startswith("/dev/pts/"):
                Path(f"/proc/{process.pid}/root{terminal}").write_text("QVD " * 2000)


def gone(node: NodeProcess) -> None:
    eventually(lambda: node.process.poll() is not None, "the former daemon ends by itself", 60)
    assert node.process.returncode == 0


def test_a_desktop_goes_on(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    held = desktop.session()
    agents = nxagents(farm)
    before = epoch(farm)
    former = farm.upgrade_node()
    assert epoch(farm) == before + 1
    assert len(daemons(farm.run)) == 2
    with farm.client() as wire:
        assert wire.get("/qvd/ping").head.status == 200
        assert len(wire.list()) == 2
    # A look of each kind, and several renewals.
    time.sleep(12)
    assert former.process.poll() is None and desktop.process.poll() is None
    assert desktop.session() == held
    assert session(farm, held)["state"] == "connected"
    assert nxagents(farm) == agents
    row = farm.vm()
    assert (row["vm_state"], row["host_epoch"]) == ("running", before + 1)
    newer = Desktop(farm, screen)
    eventually(lambda: newer.session() not in ("", held), "the newer client has it")
    assert "Another client has taken" in str(session(farm, held)["end_reason"])
    eventually(lambda: desktop.process.poll() is not None, "the older client is closed")
    gone(former)
    assert nxagents(farm) == agents
    newer.close()
    desktop.close()
    assert "Traceback" not in farm.log
