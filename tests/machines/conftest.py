"""Fixtures of the tests of containers and virtual machines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.fakes.asynchronous import asynchronous_fixture
from tests.machines import containers
from tests.machines.containerbench import Bench
from tests.machines.storage import Storage


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
