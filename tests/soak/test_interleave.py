"""C{make soak} counts what the simulated farm finds."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import pytest

from tests.soak import __main__ as soak
from tests.world.interleavings import explore
from tests.world.statements import MemoryDatabase


def test_a_portion_is_one_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    total = soak.Total()
    with patch.object(soak, "INTERLEAVINGS", 5):
        soak.interleave(1, total)
    assert (total.scenarios, total.violations, total.good) == (1, 0, True)
    assert "different interleavings" in capsys.readouterr().out


def test_a_violation_is_counted_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    total = soak.Total()
    quickly = patch.object(soak, "explore", partial(explore, shrink=False))
    with quickly, patch.object(MemoryDatabase, "reserved", lambda self, host_id: 0):
        soak.interleave(1, total)
    assert (total.scenarios, total.violations, total.good) == (1, 1, False)
    assert "Violation" in capsys.readouterr().out
