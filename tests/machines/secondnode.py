"""A second machine for a farm: a network namespace with a cable to the first one's bridge, and the same storage."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from qvd.model.settings import flatten
from tests.integration.farm import Farm, eventually
from tests.machines.machinefarm import BRIDGE, settings

NAME, ADDRESS = "n2", "10.88.0.2"
# Interfaces are looked for in /sys, which shows those of the namespace that mounted it.
WITHIN = """
set -e
groups="$(mktemp -d)"
mount --rbind /sys/fs/cgroup "$groups"
mount -t sysfs sysfs /sys
mount --rbind "$groups" /sys/fs/cgroup
umount -l "$groups"
ip link set lo up
exec "$@"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def cable() -> Iterator[None]:
    """The namespace, with a bridge that is joined to the first machine's."""
    ip("netns", "add", NAME)
    try:
        ip("link", "add", "uplink1", "type", "veth", "peer", "name", "uplink2", "netns", NAME)
        ip("link", "set", "uplink1", "master", BRIDGE, "up")
        ip("-n", NAME, "link", "add", BRIDGE, "type", "bridge")
        ip("-n", NAME, "link", "set", "uplink2", "master", BRIDGE, "up")
        yield
    finally:
        subprocess.run(["ip", "link", "del", "uplink1"], check=False)
        ip("netns", "del", NAME)


@contextlib.contextmanager
def second_node(farm: Farm, driver: str) -> Iterator[Path]:
    """A node there, at work; its folder."""
    folder = farm.folder / NAME
    folder.mkdir()
    values = {
        **dict(flatten(tomllib.loads((farm.folder / "node.conf").read_text()))),
        **settings(farm.folder, driver, ADDRESS),
        "nodename": NAME,
        "node.identity": str(folder / "node.identity"),
        "path.run": str(folder / "run"),
        "path.storage.overlays": str(folder / "overlays"),
        "admin.port": 0,
    }
    (folder / "node.conf").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    farm.rows("INSERT INTO hosts (name, address) VALUES (%s, %s)", NAME, ADDRESS)
    enter = ["nsenter", f"--net=/run/netns/{NAME}", "unshare", "--mount", "--propagation", "slave"]
    twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "qvd-node"]
    with cable(), open(folder / "node.log", "ab") as log:
        process = subprocess.Popen(
            [*enter, "sh", "-c", WITHIN, "sh", *twistd, "--config", str(folder / "node.conf")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(os.environ),
            cwd=folder,
        )
        try:
            eventually(lambda: is_at_work(farm), f"the second node at work; see {folder}/node.log", 60)
            yield folder
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def is_at_work(farm: Farm) -> bool:
    rows = farm.rows(
        "SELECT r.state FROM host_runtimes r JOIN hosts h ON h.id = r.host_id"
        " WHERE h.name = %s AND r.images_epoch = r.epoch",
        NAME,
    )
    return [row["state"] for row in rows] == ["running"]


def prefer(farm: Farm, vm_id: int, node: str) -> None:
    """Have a VM start there, and nowhere else."""
    farm.rows(
        "INSERT INTO host_properties (host_id, key, value) SELECT id, 'place', name FROM hosts WHERE name = %s", node
    )
    farm.rows(
        "INSERT INTO vm_properties (vm_id, tenant_id, key, value)"
        " SELECT id, tenant_id, 'qvd.placement.require', %s FROM vms WHERE id = %s",
        f"place={node}",
        vm_id,
    )
