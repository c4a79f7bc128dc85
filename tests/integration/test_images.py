"""Images that cannot be started from, and desktops that expire under a real client, with a real node and agent."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qvd.model.settings import flatten
from tests.conftest import require
from tests.integration.desktop import SESSION
from tests.integration.farm import Farm, eventually


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    require("bwrap", "nxagent", "xterm")
    folder = tmp_path_factory.mktemp("images")
    program = folder / "session"
    program.write_text(SESSION)
    program.chmod(0o755)
    made = Farm(folder, program, {"hkd.stop.vms": True, "hkd.images.interval": 0.5})
    made.start()
    try:
        yield made
    finally:
        made.stop()


def set_date(farm: Farm, kind: str, seconds: float) -> Any:
    """Let the first VM expire soon; return the date."""
    (row,) = farm.rows(
        f"UPDATE vm_runtimes SET vm_expiration_{kind} = clock_timestamp() + %s * interval '1 second'"
        f" WHERE vm_id = %s RETURNING vm_expiration_{kind} AS date",
        seconds,
        farm.credentials["vm_id"],
    )
    return row["date"]


def ordered(farm: Farm, cause: str) -> Any:
    """When the stop for that cause was ordered."""
    rows = farm.rows("SELECT at FROM events WHERE kind = 'vm.ordered' AND cause = %s ORDER BY id DESC", cause)
    return rows[0]["at"] if rows else None


def connected(farm: Farm) -> bool:
    vm_id = farm.credentials["vm_id"]
    return bool(farm.rows("SELECT 1 FROM sessions WHERE state = 'connected' AND vm_id = %s", vm_id))


def test_a_soft_date(farm: Farm) -> None:
    with farm.client() as wire:
        assert wire.connect(farm.credentials["vm_id"]).head.status == 101
        date = set_date(farm, "soft", 3)
        assert farm.vm()["vm_expiration_soft_told"] is None
        eventually(lambda: farm.vm()["vm_expiration_soft_told"] == date, "the agent has taken the call")
        assert farm.rows("SELECT clock_timestamp() AS now")[0]["now"] >= date
        assert (farm.vm()["vm_state"], farm.vm()["desired_state"]) == ("running", "running")
        assert connected(farm)
    eventually(lambda: ordered(farm, "the image has expired, and nobody is connected"), "the stop is ordered")
    eventually(lambda: farm.vm()["vm_state"] == "stopped", "it has stopped")
    row = farm.vm()
    assert (row["vm_expiration_soft"], row["vm_expiration_soft_told"]) == (None, None)
    assert farm.log.count("the agent is told that the soft date") == 1


def test_a_hard_date(farm: Farm) -> None:
    with farm.client() as wire:
        assert wire.connect(farm.credentials["vm_id"]).head.status == 101
        date = set_date(farm, "hard", 4)
        eventually(lambda: farm.vm()["vm_expiration_hard_told"] == date, "the agent has taken the call")
        assert connected(farm)
        at = eventually(lambda: ordered(farm, "the image has expired"), "the stop is ordered")
        assert at >= date
        assert wire.closed()
    eventually(lambda: farm.vm()["vm_state"] == "stopped", "it has stopped")
    assert farm.log.count("the agent is told that the hard date") == 1
    with farm.client() as wire:
        assert wire.connect(farm.credentials["vm_id"]).head.status == 101
        assert farm.vm()["vm_expiration_hard"] is None
    assert "Traceback" not in farm.log


def test_images_that_cannot_be_started_from(farm: Farm) -> None:
    (second,) = farm.rows("SELECT v.id, v.tenant_id, v.osf_id FROM vms v WHERE name = 'second'")

    def refusal() -> str:
        with farm.client() as wire:
            response = wire.connect(second["id"])
        assert response.head.status == 503
        assert farm.vm(second["id"])["last_error"] in response.body.decode()
        return str(farm.vm(second["id"])["last_error"])

    def change(what: str) -> None:
        farm.rows(f"UPDATE dis SET {what} WHERE version = 'new'")

    farm.rows("UPDATE vms SET di_tag = 'new' WHERE id = %s", second["id"])
    assert refusal() == "No disk image of 'Debian desktop' carries the tag 'new'"
    farm.rows(
        "INSERT INTO dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, 'new', 'new', 'uploading')",
        second["tenant_id"],
        second["osf_id"],
    )
    assert refusal().endswith("to which the tag 'new' leads, is not published yet")
    change("state = 'published', blocked = true")
    assert refusal().endswith("to which the tag 'new' leads, is blocked by an administrator")
    change("blocked = false")
    lacks = "No node can take this virtual machine: demo does not have image 'new'"
    eventually(lambda: refusal() == lacks, "the node has looked")
    images = Path(dict(flatten(tomllib.loads((farm.folder / "node.conf").read_text())))["path.storage.images"])
    (images / "new").mkdir(parents=True)
    eventually(lambda: "does not have" not in refusal(), "the node has looked again")
    # There it is; that it is empty is for the driver to say.
    assert "The image new lacks" in refusal()
    change("path = ''")
    with farm.client() as wire:
        assert wire.connect(second["id"]).head.status == 101
    assert "Traceback" not in farm.log
