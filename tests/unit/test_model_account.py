"""A Unix account for any login."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.account import LONGEST, unix_name

USERADD = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


@given(st.text())
def test_any_login_gives_a_name_that_useradd_takes(login: str) -> None:
    name = unix_name(login)
    assert USERADD.fullmatch(name)
    assert len(name) <= LONGEST
    assert name != "root"


@given(st.text())
def test_a_name_is_its_own_name(login: str) -> None:
    assert unix_name(unix_name(login)) == unix_name(login)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", "alice"),
        ("Alice.Liddell", "alice.liddell"),
        ("alice@example", "alice_example"),
        ("root", "_root"),
        ("ROOT", "_root"),
        ("", "_"),
        ("4711", "_4711"),
        ("-rf", "_-rf"),
        ("..", "_.."),
        ("jürgen", "j_rgen"),
        ("a:b\nc", "a_b_c"),
        ("x" * 40, "x" * 32),
        ("1" * 40, "_" + "1" * 31),
    ],
)
def test_names(login: str, name: str) -> None:
    assert unix_name(login) == name
