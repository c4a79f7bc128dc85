"""A newer image, its roll-back, and the garbage of both, with a real node and the sandbox driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.contract.sandbox_vms import copy_program, make_image
from tests.fakes.asynchronous import asynchronous
from tests.integration.farm import Farm
from tests.integration.imageupdate import image_update, update_and_roll_back

AGENT = """#!/bin/sh
number() { busybox sed -n "s/.*\\"$1\\": \\([0-9]*\\).*/\\1/p" /.qvd/guest.json; }
cat /etc/image >> image
busybox httpd -p 127.0.0.1:$((4000 + $(number display)))
exec busybox httpd -f -p "127.0.0.1:$(number vma_port)" -h /srv
"""
ANSWERS = {"ping": "true", "x_start": '"starting"', "x_state": '"listening"', "poweroff": "true"}


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    require("bwrap", "setpriv", "busybox")
    settings = {
        "hkd.stop.vms": True,
        "hkd.timeout.shutdown": 1.0,
        "hkd.images.interval": 0.5,
        "hkd.garbage.interval": 1.0,
        "hkd.garbage.age": 0.0,
    }
    made = Farm(tmp_path, None, settings)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def light_image(images: Path, name: str) -> str:
    """One whose agent says of anything that it is well, and that an X session listens."""
    folder = images / name
    make_image(folder)
    copy_program("busybox", folder)
    (folder / "usr/bin/nxagent").write_text("")
    (folder / "etc/image").write_text(f"{name}\n")
    (folder / "usr/bin/qvd-vma").write_text(AGENT)
    (folder / "usr/bin/qvd-vma").chmod(0o755)
    (folder / "srv/vma").mkdir(parents=True)
    for call, text in ANSWERS.items():
        (folder / "srv/vma" / call).write_text(text)
    return name


@asynchronous
async def test_update_and_roll_back(farm: Farm) -> None:
    vm_id, storage = farm.credentials["vm_id"], farm.folder
    (tenant,) = farm.rows("SELECT tenant_id FROM vms WHERE id = %s", vm_id)
    home = storage / "homes" / str(tenant["tenant_id"]) / str(vm_id)
    async with image_update(farm, lambda name: light_image(storage / "images", name), home) as update:
        await update_and_roll_back(update)
        left = storage / "overlays" / "999" / "upper"
        left.mkdir(parents=True)
        layer = storage / "overlays" / str(vm_id)
        await update.until(lambda: not left.exists(), "the node has collected what nobody uses")
        assert layer.is_dir()
        assert await update.use() == 101
    assert "Traceback" not in farm.log
