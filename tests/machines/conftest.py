"""Fixtures of the tests of containers and virtual machines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.fakes.asynchronous import asynchronous_fixture
from tests.integration.farm import eventually
from tests.machines import containers, kvm_vms
from tests.machines.containerbench import Bench
from tests.machines.containers import interfaces
from tests.machines.storage import Storage
from tests.rig.plugin import is_inside


@pytest.fixture(scope="module", autouse=True)
def own_network() -> Iterator[None]:
    """Each module has the world's network for itself: a bridge of another one would take its addresses away."""
    if not is_inside():
        yield
        return
    before = interfaces()
    yield
    for bridge in {containers.BareNetwork.bridge, kvm_vms.BRIDGE} & interfaces():
        containers.delete(bridge)
    eventually(lambda: interfaces() == before, f"interfaces are {before} again")


@pytest.fixture(scope="session")
def busybox_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an image C{busybox}."""
    require("lxc-start", "busybox")
    containers.grant_ids()
    folder = tmp_path_factory.mktemp("images")
    containers.make_image(folder / "busybox")
    return folder


@asynchronous_fixture
async def bench(tmp_path: Path, busybox_images: Path) -> AsyncIterator[Bench]:
    made = Bench(busybox_images, tmp_path)
    yield made
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/.qvd/init")
    for found in await made.driver.list():
        await made.driver.kill(found.vm_id)
        await made.driver.destroy(found.vm_id)
    made.driver.close()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """Folders of images and layers, all in one."""
    made = Storage(tmp_path / "storage")
    yield made
    made.close()
