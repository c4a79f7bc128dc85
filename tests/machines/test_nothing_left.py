"""What all private tests of a run have left on the machine, whatever became of them."""

from __future__ import annotations

import pytest

from tests.rig.plugin import outside_of
from tests.rig.world import outside

pytestmark = pytest.mark.afterwards


def test_nothing_is_left(pytestconfig: pytest.Config) -> None:
    """The daemons' own leftovers in the world are control groups: all else that they make ends with its namespaces."""
    rig = outside_of(pytestconfig)
    if rig.world is None:
        pytest.skip("no private test has run")
    rig.end()
    assert rig.world.left() == []
    assert outside() == rig.before
