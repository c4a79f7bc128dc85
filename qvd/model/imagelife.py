# -*- test-case-name: tests.unit.test_model_imagelife -*-
"""The life of a disk image as administrators move it: what may be done in which state, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from qvd.model.images import DIState


class Operation(Enum):
    """What an administrator does, or the work that makes an image."""

    RECEIVED = "received"
    VERIFIED = "verified"
    FAILED = "failed"
    BEGUN_AGAIN = "begun-again"
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"
    RETIRE = "retire"
    ROLLBACK = "rollback"


LIFE: Mapping[DIState, Mapping[Operation, DIState]] = {
    DIState.NEW: {Operation.FAILED: DIState.FAIL},
    DIState.GENERATING: {Operation.RECEIVED: DIState.VERIFYING, Operation.FAILED: DIState.FAIL},
    DIState.UPLOADING: {Operation.RECEIVED: DIState.VERIFYING, Operation.FAILED: DIState.FAIL},
    DIState.VERIFYING: {Operation.VERIFIED: DIState.READY, Operation.FAILED: DIState.FAIL},
    DIState.READY: {Operation.PUBLISH: DIState.PUBLISHED, Operation.RETIRE: DIState.RETIRED},
    DIState.PUBLISHED: {
        Operation.UNPUBLISH: DIState.READY,
        Operation.RETIRE: DIState.RETIRED,
        Operation.ROLLBACK: DIState.READY,
    },
    DIState.RETIRED: {Operation.PUBLISH: DIState.PUBLISHED},
    DIState.FAIL: {Operation.BEGUN_AGAIN: DIState.UPLOADING},
}
"""What is not here is not permitted."""

GROWING = frozenset({DIState.GENERATING, DIState.UPLOADING, DIState.VERIFYING})
"""There is no whole file yet."""


def after(state: DIState, operation: Operation) -> DIState | None:
    """The state that an operation leads to; L{None}: it is not permitted."""
    return LIFE[state].get(operation)


def permitted(state: DIState) -> list[str]:
    """What an administrator may do in a state."""
    mine = (Operation.PUBLISH, Operation.UNPUBLISH, Operation.RETIRE, Operation.ROLLBACK)
    return [operation.value for operation in mine if operation in LIFE[state]]
