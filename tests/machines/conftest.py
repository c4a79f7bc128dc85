"""Fixtures of the tests with containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import containers


@pytest.fixture(scope="session")
def busybox_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an image C{busybox}."""
    require("lxc-start", "busybox")
    containers.grant_ids()
    folder = tmp_path_factory.mktemp("images")
    containers.make_image(folder / "busybox")
    return folder
