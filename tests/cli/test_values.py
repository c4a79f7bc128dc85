"""What is typed for options, as values."""

from __future__ import annotations

from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from qvd.cli.description import Shape
from qvd.cli.exits import CommandError
from qvd.cli.values import anything, list_of, object_of, read_body, value_of

NUMBERS = {"user": {"ana": 7}, "role": {"Helpdesk": 3, "Auditor": 4}}


def find(word: str, text: str) -> int | None:
    """Knows users and roles."""
    if word not in NUMBERS:
        return None
    return int(text) if text.isdigit() else NUMBERS[word][text]


@pytest.mark.parametrize(
    ("name", "kind", "text", "wanted"),
    [
        ("user_id", "integer", "ana", 7),
        ("user_id", "integer", "12", 12),
        ("memory", "integer", "-5", -5),
        ("cpus", "number", "1.5", 1.5),
        ("blocked", "boolean", "Yes", True),
        ("blocked", "boolean", "off", False),
        ("name", "text", "5", "5"),
        ("value", "any", "5", 5),
        ("value", "any", '"5"', "5"),
        ("value", "any", "ldaps://a", "ldaps://a"),
        ("value", "any", "null", None),
    ],
)
def test_values(name: str, kind: str, text: str, wanted: object) -> None:
    found = value_of(name, Shape(kind), text, find)
    assert (found, type(found)) == (wanted, type(wanted))


def test_moments() -> None:
    found = value_of("at", Shape("time"), "2h", find)
    assert datetime.fromisoformat(found).tzinfo is not None


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [("memory", "integer", "x"), ("cpus", "number", "x"), ("blocked", "boolean", "maybe"), ("at", "time", "soon")],
)
def test_what_is_none(name: str, kind: str, text: str) -> None:
    with pytest.raises(CommandError, match=name):
        value_of(name, Shape(kind), text, find)


def test_lists() -> None:
    texts, numbers = Shape("list", item=Shape("text")), Shape("list", item=Shape("integer"))
    assert list_of("scopes", texts, ["a, b", "c"], find) == ["a", "b", "c"]
    assert list_of("scopes", texts, ['["a,b"]'], find) == ["a,b"]
    assert list_of("ids", numbers, ["1,2"], find) == [1, 2]
    assert list_of("roles", numbers, ["Helpdesk,4"], find) == [3, 4]
    assert list_of("roles", Shape("list", item=Shape("any")), ["Auditor"], find) == [4]
    assert list_of("tags", Shape("list", item=Shape("any")), ["2024,x"], find) == ["2024", "x"]
    for wrong in ("[1", "[1] 2"):
        with pytest.raises(CommandError):
            list_of("ids", numbers, [wrong], find)


def test_objects() -> None:
    assert object_of("properties", ["floor=3", "room=3b", 'code="7"', "gone=null"]) == {
        "floor": 3,
        "room": "3b",
        "code": "7",
        "gone": None,
    }
    assert object_of("properties", ['{"a": 1}', "b=x=y"]) == {"a": 1, "b": "x=y"}
    for wrong in ("a", "=a", "{a}"):
        with pytest.raises(CommandError):
            object_of("properties", [wrong])


def test_bodies(tmp_path: Path) -> None:
    def body(text: str) -> dict[str, Any]:
        return read_body("-", StringIO(text))

    assert body('{"a": 1}') == {"a": 1}
    assert body("a: 2026-01-01\nb: [x]\n") == {"a": "2026-01-01", "b": ["x"]}, "no dates, which JSON has not"
    for wrong in ("", "- a", "{", "a: !!python/object:os.system x", "{" * 100_000):
        with pytest.raises(CommandError):
            body(wrong)
    with pytest.raises(CommandError):
        read_body(str(tmp_path / "none"), StringIO())


def test_anything_is_never_an_error() -> None:
    assert anything("[" * 100_000) == "[" * 100_000
