"""Containers through a whole node: fifty at once, homes that stay, images that are updated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import require
from tests.integration.farm import Farm, eventually
from tests.machines.busyguest import make_image
from tests.machines.containers import grant_ids, interfaces
from tests.machines.machinefarm import add_vms, home_of, machine_farm, register, retag, stop, stopped
from tests.machines.secondnode import NAME, prefer, second_node

pytestmark = [pytest.mark.private, pytest.mark.lxc]

MEMORY = 64 << 20
FIFTY = 50


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    require("lxc-start", "nft")
    grant_ids()
    slots = {"hkd.slots.boot": FIFTY, "hkd.slots.stop": FIFTY}
    with machine_farm(tmp_path, "lxc", make_image(tmp_path / "busybox.tar"), MEMORY, slots) as made:
        yield made


def talk(farm: Farm, vm_id: int) -> float:
    """Connect as a client does, have bytes come back from the guest, and go; return the seconds to the 101."""
    began = time.monotonic()
    with farm.client() as wire:
        reply = wire.connect(vm_id)
        assert reply.head.status == 101, (reply.body, farm.vm(vm_id)["last_error"], farm.log[-2000:])
        took = time.monotonic() - began
        wire.socket.sendall(b"is anybody there?")
        heard = b""
        while len(heard) < 17:
            data = wire.socket.recv(17)
            assert data, f"VM {vm_id} hung up"
            heard += data
        assert heard == b"is anybody there?"
    return took


def history(farm: Farm, vm_id: int) -> list[str]:
    """What the guest wrote into its home, a line for each start."""
    return (home_of(farm, vm_id) / "alice/history").read_text().splitlines()


def used_memory() -> int:
    memory = psutil.virtual_memory()
    return int(memory.total - memory.available)


def test_fifty_at_once(farm: Farm) -> None:
    first = farm.credentials["vm_id"]
    talk(farm, first)  # the image is unpacked
    vm_ids = add_vms(farm, FIFTY)
    links, before, began = interfaces(), used_memory(), time.monotonic()
    with ThreadPoolExecutor(FIFTY) as pool:
        took = sorted(pool.map(lambda vm_id: talk(farm, vm_id), vm_ids))
    all_up, memory = time.monotonic() - began, used_memory() - before
    assert len(farm.rows("SELECT 1 AS one FROM vm_runtimes WHERE vm_state = 'running'")) == FIFTY + 1
    ends = time.monotonic()
    stop(farm, *vm_ids)
    down = time.monotonic() - ends
    each = memory / FIFTY / 2**20
    print(f"{FIFTY} containers at once: all reached after {all_up:.1f} s, all stopped after {down:.1f} s")
    print(f"from a login to its 101: median {took[FIFTY // 2]:.2f} s, most {took[-1]:.2f} s; {each:.1f} MiB each")
    assert interfaces() == links
    assert farm.rows("SELECT last_error FROM vm_runtimes WHERE last_error IS NOT NULL") == []


def test_a_home_survives_stop_and_start(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    for _ in range(2):
        talk(farm, vm_id)
        stop(farm, vm_id)
    assert history(farm, vm_id) == ["started 1", "started 1"]


def test_a_home_goes_to_another_node(farm: Farm) -> None:
    """Each client talks to the first node, which reaches the VM over the VM network."""
    vm_id = farm.credentials["vm_id"]
    talk(farm, vm_id)
    stop(farm, vm_id)
    with second_node(farm, "lxc") as folder:
        prefer(farm, vm_id, NAME)
        talk(farm, vm_id)
        hosts = farm.rows("SELECT h.name FROM hosts h JOIN vm_runtimes r ON r.host_id = h.id WHERE r.vm_id = %s", vm_id)
        assert [row["name"] for row in hosts] == [NAME]
        assert (folder / "run/vms" / str(vm_id)).exists()
        stop(farm, vm_id)
    assert history(farm, vm_id) == ["started 1", "started 1"]


def test_a_daemon_that_dies_amid_a_start(farm: Farm) -> None:
    """Whatever it had done by then, the next one starts the VM once, with its home."""
    vm_id = farm.credentials["vm_id"]
    talk(farm, vm_id)
    stop(farm, vm_id)
    for pause in (0.05, 0.15, 0.3, 0.5):
        with farm.client() as wire:
            wire.send_connect(vm_id)
            eventually(lambda: farm.vm(vm_id)["vm_state"] == "starting", "a start under way")
            time.sleep(pause)
            farm.kill_node()
        farm.start_node()
        talk(farm, vm_id)
        stop(farm, vm_id)
    lines = history(farm, vm_id)
    assert lines[0] == "started 1" and 5 <= len(lines) <= 9, lines


def test_an_image_is_updated_and_rolled_back(farm: Farm, tmp_path: Path) -> None:
    vm_id = farm.credentials["vm_id"]
    old = farm.rows("SELECT di_id FROM di_tags WHERE tag = 'default'")[0]["di_id"]
    talk(farm, vm_id)
    init = farm.vm(vm_id)["run"]
    new = register(farm, make_image(tmp_path / "second.tar", "2"), "second", "lxc")
    retag(farm, new)
    talk(farm, vm_id)
    assert farm.vm(vm_id)["run"] == init, "a running VM is left alone"
    stop(farm, vm_id)
    talk(farm, vm_id)
    stop(farm, vm_id)
    retag(farm, old)
    talk(farm, vm_id)
    assert history(farm, vm_id) == ["started 1", "started 2", "started 1"]


def test_a_guest_that_hangs(farm: Farm) -> None:
    """Its agent does not answer any more: the node ends it, and its user can start it anew."""
    vm_id = farm.credentials["vm_id"]
    talk(farm, vm_id)
    for process in farm.guest_processes("nc"):
        os.kill(process.pid, signal.SIGSTOP)
    eventually(lambda: stopped(farm, vm_id), "the hung VM stopped", 60)
    talk(farm, vm_id)
    assert len(history(farm, vm_id)) == 2
