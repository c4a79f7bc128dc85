"""A real node with containers or virtual machines: the tests' farm, in a private world, with another driver."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qvd.db import network
from qvd.demo.installation import DemoError
from qvd.model.network import parse_plan
from tests.integration.farm import Farm, eventually

NODE_ADDRESS, RANGE, VMS_FROM = "10.88.0.1", "10.88.0.0/16", "10.88.1.0"
BRIDGE = "qvdnet"
HOME_TENANT = 1


def settings(folder: Path, driver: str, address: str = NODE_ADDRESS) -> dict[str, Any]:
    """What differs from the demo's node.

    @param address: of the node in the VM network.
    """
    return {
        "vm.hypervisor": driver,
        "node.address": address,
        "path.storage.bases": str(folder / "bases"),
        "vm.network.bridge": BRIDGE,
        "vm.network.create_bridge": True,
        "vm.network.dhcp": driver == "kvm",
        "hkd.images.interval": 0.5,
        "hkd.stop.vms": True,
        # What a test waits for should come soon, on a machine that does much else.
        "hkd.watch.interval": 1.0,
        "hkd.watch.failures": 5,
        # All nodes are this machine, so that only what is reserved on each tells them apart.
        "l7r.loadbalancer.plugin.default.weight.cpu": 0.0,
        "l7r.loadbalancer.plugin.default.weight.random": 0.0,
    }


def register(farm: Farm, image: Path, version: str, kind: str, tag: str | None = None) -> int:
    """Put an image file into the storage and into the database; return its number.

    @param tag: to be moved there.
    """
    stored = farm.folder / "images" / f"{version}-{image.name}"
    stored.parent.mkdir(exist_ok=True)
    shutil.copyfile(image, stored)
    with open(stored, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    row = farm.rows(
        "INSERT INTO dis (tenant_id, osf_id, path, version, type, size, checksum, published_at)"
        " SELECT tenant_id, id, %s, %s, %s, %s, %s, now() FROM osfs LIMIT 1 RETURNING id",
        stored.name,
        version,
        kind,
        stored.stat().st_size,
        checksum,
    )[0]
    if tag is not None:
        retag(farm, row["id"], tag)
    return int(row["id"])


def retag(farm: Farm, di_id: int, tag: str = "default") -> None:
    """Have VMs with that tag start from this image."""
    farm.rows("UPDATE di_tags SET di_id = %s WHERE tag = %s", di_id, tag)


def add_vms(farm: Farm, count: int) -> list[int]:
    """More VMs for the demo's user."""
    return [
        int(row["id"])
        for row in farm.rows(
            "INSERT INTO vms (tenant_id, user_id, osf_id, name)"
            " SELECT v.tenant_id, v.user_id, v.osf_id, 'more ' || n FROM vms v, generate_series(1, %s) n"
            " WHERE v.name = 'desktop' RETURNING id",
            count,
        )
    ]


def home_of(farm: Farm, vm_id: int) -> Path:
    """The home of a VM in the storage."""
    return farm.folder / "homes" / str(HOME_TENANT) / str(vm_id)


def order_stop(farm: Farm, *vm_ids: int) -> None:
    farm.rows(
        "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1 WHERE vm_id = ANY(%s)",
        list(vm_ids),
    )


def stopped(farm: Farm, *vm_ids: int) -> bool:
    rows = farm.rows("SELECT vm_id FROM vm_runtimes WHERE vm_id = ANY(%s) AND vm_state <> 'stopped'", list(vm_ids))
    return not rows


def stop(farm: Farm, *vm_ids: int) -> None:
    order_stop(farm, *vm_ids)
    eventually(lambda: stopped(farm, *vm_ids), f"VMs {vm_ids} stopped", 60)


@contextlib.contextmanager
def machine_farm(
    folder: Path, driver: str, image: Path, memory: int, overrides: Mapping[str, Any] | None = None
) -> Iterator[Farm]:
    """One node; its VMs boot from that image.

    @param image: a file of the type that the driver takes.
    @param memory: bytes, for each VM.
    """
    farm = Farm(folder, None, {**settings(folder, driver), **(overrides or {})})
    farm.installation.postgres.start()
    try:
        farm.installation.prepare()
        network.set_plan(farm.installation.admin_dsn, parse_plan(RANGE, VMS_FROM, None, None), "tests")
        farm.rows("UPDATE osfs SET hypervisor = %s, memory = %s", driver, memory)
        register(farm, image, "first", driver, "default")
        try:
            farm.start_node()
        except DemoError as error:
            raise AssertionError(f"{error}:\n{farm.log[-2000:]}") from None
        yield farm
    finally:
        farm.stop()
