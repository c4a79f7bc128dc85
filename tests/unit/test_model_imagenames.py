"""Names that could mean another place are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.errors import InvalidRequest
from qvd.model.imagenames import LONGEST, checked_name, name_of_url, stored_name

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x7f",
    ".hidden",
    "-rf",
    " a",
    "a ",
    "\ud800",
]


@pytest.mark.parametrize("name", [*HOSTILE, "x" * (LONGEST + 1), "é" * (LONGEST // 2 + 1)])
def test_hostile_names(name: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_name(name)


def test_good_names() -> None:
    assert stored_name(7, "mate 2.qcow2") == "7-mate 2.qcow2"
    assert checked_name("é" * (LONGEST // 2)) == "é" * (LONGEST // 2)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b.tar.gz", "b.tar.gz"), ("/", "image"), ("/../..", "image"), ("/a b", "a_b"), ("/é", "image")],
)
def test_names_of_urls(path: str, name: str) -> None:
    assert name_of_url(path) == name


@given(st.text())
def test_every_name_of_a_url_is_good(path: str) -> None:
    checked_name(name_of_url(path))
