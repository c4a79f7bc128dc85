"""Which value of a key counts, and which values it takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qvd.model.configuration import KEYS, PUBLIC, Effective, Key, Level, Place, Type, effective, key_of
from qvd.model.errors import InvalidRequest

KEY = Key(
    name="k", type=Type.INTEGER, default=1, text="", read_by="tests", levels=tuple(Level), least=0, most=100
)  # fmt: skip
EVERYWHERE, TENANT, OTHER, HOST = Place(), Place(5), Place(6), Place(host_id=7)


@pytest.mark.parametrize(
    ("stored", "place", "value", "origin", "default", "is_default"),
    [
        ({}, TENANT, 1, None, 1, True),
        ({EVERYWHERE: 2}, EVERYWHERE, 2, Level.GLOBAL, 1, False),
        ({EVERYWHERE: 2}, TENANT, 2, Level.GLOBAL, 2, True),
        ({EVERYWHERE: 2, TENANT: 3}, TENANT, 3, Level.TENANT, 2, False),
        ({EVERYWHERE: 2, TENANT: 3}, OTHER, 2, Level.GLOBAL, 2, True),
        ({EVERYWHERE: 2, TENANT: 3}, EVERYWHERE, 2, Level.GLOBAL, 1, False),
        ({TENANT: 3, HOST: 4}, HOST, 4, Level.HOST, 1, False),
        ({TENANT: 3, HOST: 4}, Place(5, 7), 3, Level.TENANT, 3, True),
        ({EVERYWHERE: 2, TENANT: "x"}, TENANT, 2, Level.GLOBAL, 2, True),
    ],
)
def test_the_nearest_counts(
    stored: dict[Place, Any], place: Place, value: int, origin: Level | None, default: int, is_default: bool
) -> None:
    found = effective(KEY, {("k", each): value for each, value in stored.items()}, place)
    assert found == Effective(KEY, value, origin, default, is_default)


def test_what_is_stored_where_it_may_not_be_set_does_not_count() -> None:
    key = Key(name="k", type=Type.INTEGER, default=1, text="", read_by="tests")
    assert effective(key, {("k", TENANT): 3, ("k", EVERYWHERE): 2}, TENANT).value == 2


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Type.BOOLEAN, [True, False], [1, 0, "true", None]),
        (Type.INTEGER, [0, 100], [-1, 101, True, 1.0, "1", None]),
        (Type.NUMBER, [0, 1.5], [float("nan"), float("inf"), True, "1"]),
        (Type.TEXT, ["", "x"], [1, None, "\0", "x" * 40000]),
    ],
)
def test_values(kind: Type, good: list[Any], bad: list[Any]) -> None:
    numeric = kind in (Type.INTEGER, Type.NUMBER)
    least, most = (0, 100) if numeric else (None, None)
    key = Key(name="k", type=kind, default=0, text="", read_by="", least=least, most=most)
    assert all(key.is_good(value) for value in good)
    for value in bad:
        with pytest.raises(InvalidRequest):
            key.checked(value)


def test_no_secret_in_a_refusal() -> None:
    key = Key(name="k", type=Type.TEXT, default="", text="", read_by="", choices=("a", "b"), secret=True)
    with pytest.raises(InvalidRequest, match=r"^k is one of a, b$"):
        key.checked("hunter2")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_each_key_says_what_it_does(key: Key) -> None:
    assert key.is_good(key.default) and key.text and key.read_by and key.levels
    assert key_of(key.name) is key


def test_nothing_of_a_machine_can_be_set_in_the_database() -> None:
    """Programs, paths, users, hooks: whoever could set them would be root."""
    machines = re.compile(r"^(path|command)\.|\b(as_user|as_group|user|group|hooks?|filename|pid_file|script)\b")
    assert [key.name for key in KEYS if machines.search(key.name)] == []


def test_the_documentation_has_each_key() -> None:
    text = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    listed = re.findall(r"^\| `([a-z0-9.]+)` \| `?([a-z0-9@#]+)", text, re.MULTILINE)
    named = [key for key in KEYS if not key.name.startswith(PUBLIC)]
    assert {(name, default) for name, default in listed} == {(key.name, str(key.default).lower()) for key in named}
    assert PUBLIC in text
