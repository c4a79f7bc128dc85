"""Errors have codes that edges can rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qvd.model import errors
from qvd.model.errors import DatabaseUnavailable, QVDError, Unavailable


def kinds(base: type[QVDError] = QVDError) -> Iterator[type[QVDError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


ALL = list(kinds())


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes) > 10
    assert QVDError.code not in codes


@pytest.mark.parametrize("kind", ALL)
def test_each_carries_its_sentence(kind: type[QVDError]) -> None:
    error = kind("What happened")
    assert (error.text, str(error)) == ("What happened", "What happened")


def test_the_time_to_try_again() -> None:
    assert Unavailable("full").retry_after is None
    assert DatabaseUnavailable("away", retry_after=5).retry_after == 5
