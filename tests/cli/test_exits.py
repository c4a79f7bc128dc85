"""Statuses by class of error."""

from __future__ import annotations

import pytest

from qvd.admin.problems import KINDS
from qvd.apiclient import ApiError, ApiProblem, BadAnswer, Unreachable, Untrusted
from qvd.apiclient.problems import Fault
from qvd.cli.exits import Exit, exit_of, words_of

WANTED = {
    "credentials-required": 3,
    "invalid-credentials": 3,
    "session-expired": 3,
    "otp-required": 3,
    "reauthentication-required": 3,
    "account-locked": 3,
    "forbidden": 4,
    "superadmin-only": 4,
    "grants-more": 4,
    "not-found": 5,
    "unknown-operation": 5,
    "conflict": 6,
    "has-dependents": 6,
    "precondition-failed": 6,
    "invalid-value": 2,
    "unknown-filter": 2,
    "too-many-requests": 9,
    "database-unavailable": 9,
    "no-host-available": 9,
    "internal": 1,
    "insufficient-storage": 1,
}


@pytest.mark.parametrize("kind", [name for name, each in KINDS.items() if each.status >= 400])
def test_each_problem_has_a_class(kind: str) -> None:
    found = exit_of(ApiProblem(kind, "title", "detail", KINDS[kind].status))
    assert found in (1, 2, 3, 4, 5, 6, 9)
    assert found == WANTED.get(kind, found)


def test_other_errors() -> None:
    for error, wanted in (
        (Unreachable("x"), Exit.UNAVAILABLE),
        (Untrusted("x"), Exit.UNAVAILABLE),
        (BadAnswer("x"), Exit.FAILED),
        (ApiError("x"), Exit.FAILED),
    ):
        assert exit_of(error) is wanted


def test_words() -> None:
    problem = ApiProblem(
        "has-dependents",
        "Others depend on it",
        "It is used",
        409,
        [Fault("/name", "is too long")],
        more={"dependents": [{"kind": "vm", "count": 2}]},
    )
    assert words_of(problem) == "It is used\n  name: is too long\n  depends on it: 2 vm"
    assert words_of(ApiProblem("internal", "It failed", "", 500, request_id="r1")) == "It failed\n  request r1"
