"""Acceptance point 1: what the original can be asked for."""

from __future__ import annotations

import pytest

from qvd.admin.api import all_endpoints
from tests.admin.matrix import Matrix
from tests.admin.originals import ACTIONS, GONE, KINDS, PATHS

OURS = {endpoint.action: endpoint for endpoint in all_endpoints()}
NUMBERS = {"actions": 81, "paths": 14}
"""Of the original's catalogue, so that none is left out by mistake."""


def test_the_table_is_whole() -> None:
    gone_paths = {name for name in GONE if name.startswith("/")}
    assert not GONE.keys() & {*ACTIONS, *PATHS}
    assert len(PATHS) + len(gone_paths) == NUMBERS["paths"]
    assert len(ACTIONS) + len(GONE) - len(gone_paths) == NUMBERS["actions"]
    assert all(reason for reason in GONE.values())
    assert all(f"{kind}_{verb}" in ACTIONS for kind in KINDS for verb in ("create", "update", "delete", "get_list"))


@pytest.mark.acceptance(1)
@pytest.mark.parametrize("name", [*ACTIONS, *PATHS])
def test_it_is_here(name: str) -> None:
    """Each of our operations is called by L{tests.admin.test_matrix}, as everybody, for each entry of the matrix."""
    tried = Matrix.committed().allowed
    for action in {**ACTIONS, **PATHS}[name]:
        assert action in OURS, f"{name}: there is no {action}"
        assert tried[OURS[action].route], f"{name}: nobody may call {action}"
