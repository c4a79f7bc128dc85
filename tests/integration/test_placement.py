"""Placement on a real node: the last free slot, and rules that nobody can meet, as their user reads them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.integration import lastslot
from tests.integration.farm import Farm

CLIENTS = 100


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    require("bwrap", "nxagent")
    program = tmp_path / "session"
    program.write_text("#!/bin/sh\nexec sleep 100000\n")
    program.chmod(0o755)
    made = Farm(tmp_path, program, {"hkd.stop.vms": True})
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_one_of_a_hundred_gets_the_last_slot(farm: Farm) -> None:
    vm_ids = lastslot.make_vms(farm, CLIENTS)
    lastslot.fill(farm)
    answers = lastslot.rush(farm, vm_ids)
    assert sorted(answer.status for answer in answers) == [101] + [503] * (CLIENTS - 1)
    refused = {answer.text for answer in answers if answer.status == 503}
    left = lastslot.LEFT - lastslot.NEEDED
    (sentence,) = refused
    assert sentence.strip() == (
        f"No node can take this virtual machine: demo has {left} MiB free, 512 MiB are needed;"
        " small has 100 MiB free, 512 MiB are needed"
    )
    (bound,) = farm.rows("SELECT vm_id FROM vm_runtimes WHERE host_id IS NOT NULL AND vm_id = ANY(%s)", vm_ids)
    (taken,) = (vm_id for vm_id, answer in zip(vm_ids, answers, strict=True) if answer.status == 101)
    assert bound["vm_id"] == taken
    assert "Traceback" not in farm.log


def test_a_rule_is_told_to_the_user_and_to_the_administrator(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    farm.rows("UPDATE osfs SET hypervisor = 'kvm'")
    with farm.client() as client:
        response = client.connect(vm_id)
    assert response.head.status == 503
    assert b"demo runs sandbox, kvm is needed" in response.body
    farm.rows("UPDATE osfs SET hypervisor = 'sandbox'")
    farm.rows("INSERT INTO osf_properties SELECT id, tenant_id, 'qvd.placement.require', 'gpu=yes' FROM osfs")
    with farm.client() as client:
        response = client.connect(vm_id)
    assert b"demo has no property gpu, gpu=yes is needed" in response.body
    program = Path(sys.executable).with_name("qvd-node")
    told = subprocess.run(
        [str(program), "--config", str(farm.folder / "node.conf"), "explain", str(vm_id)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert "needs hypervisor sandbox; a node with gpu=yes" in told
    assert "demo: rejected: it has no property gpu, gpu=yes is needed (" in told
    assert "; runs sandbox)" in told
    farm.rows("INSERT INTO host_properties SELECT id, 'gpu', 'yes' FROM hosts")
    with farm.client() as client:
        assert client.connect(vm_id).head.status == 101
    assert "Traceback" not in farm.log
