"""
The simulated database against the real one: the same random calls, the same answers and the same rows after each.

Time is in no call: leases are over, or not, because the test says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest
import pytest_twisted

from qvd.model.errors import OwnershipLost, SessionLost, Unavailable
from tests.contract.bothdatabases import Both
from tests.contract.stores import World

CALLS = 500


@pytest_twisted.async_yield_fixture
async def world(database: str) -> AsyncIterator[World]:
    made = World(database)
    await made.pool.start()
    yield made
    await made.close()


# What the calls must come to, most of it with each seed: both the thing done and the refusal.
BOTH_WAYS = [
    ("claim_start", True),
    ("claim_start", False),
    ("acknowledge", True),
    ("acknowledge", False),
    ("save", False),
    ("save", OwnershipLost),
    ("release", False),
    ("release", OwnershipLost),
    ("adopt", False),
    ("adopt", OwnershipLost),
    ("renew", True),
    ("renew", OwnershipLost),
    ("declare_lost", True),
    ("declare_lost", False),
    ("order_start", False),
    ("order_start", Unavailable),
    ("claim", True),
    ("claim", Unavailable),
    ("connected", False),
    ("connected", SessionLost),
    ("pending", True),
    ("account", True),
    ("account", False),
    ("drain", True),
    ("show", True),
    ("reset_failures", False),
    ("end_stale_sessions", True),
]


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_the_simulated_database_is_like_the_real_one(world: World, seed: int) -> None:
    both = Both(world, Random(seed))
    await both.begin()
    for _ in range(CALLS):
        await both.do()
    missed = {*BOTH_WAYS} - both.outcomes
    assert len(missed) <= 4, f"the calls have come to little: {missed}"
