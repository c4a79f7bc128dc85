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
