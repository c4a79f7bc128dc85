"""Fixtures of the doctor's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require
from tests.doctor.world import Setup


@pytest.fixture
def setup(tmp_path: Path, database: str) -> Setup:
    """A healthy machine with one node."""
    require("bwrap", "nxagent", "setpriv")
    made = Setup(tmp_path, database)
    made.add_node()
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An authority that this machine trusts may have a number that the library dislikes; the doctor does not mind."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:Parsed a serial number"))
