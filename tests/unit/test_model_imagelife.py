"""The table of an image's life."""

from __future__ import annotations

import pytest

from qvd.model.imagelife import LIFE, Operation, after, permitted
from qvd.model.images import DIState

PERMITTED = {
    ("new", "failed"): "fail",
    ("generating", "received"): "verifying",
    ("generating", "failed"): "fail",
    ("uploading", "received"): "verifying",
    ("uploading", "failed"): "fail",
    ("verifying", "verified"): "ready",
    ("verifying", "failed"): "fail",
    ("ready", "publish"): "published",
    ("ready", "retire"): "retired",
    ("published", "unpublish"): "ready",
    ("published", "retire"): "retired",
    ("published", "rollback"): "ready",
    ("retired", "publish"): "published",
    ("fail", "begun-again"): "uploading",
}


@pytest.mark.acceptance(16)
@pytest.mark.parametrize("state", DIState)
@pytest.mark.parametrize("operation", Operation)
def test_every_pair(state: DIState, operation: Operation) -> None:
    found = after(state, operation)
    assert (found.value if found else None) == PERMITTED.get((state.value, operation.value))


@pytest.mark.acceptance(16)
def test_the_table_is_total() -> None:
    assert set(LIFE) == set(DIState)


def test_what_is_offered() -> None:
    assert permitted(DIState.PUBLISHED) == ["unpublish", "retire", "rollback"]
    assert permitted(DIState.FAIL) == []
