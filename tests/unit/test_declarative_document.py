"""Documents: values as YAML 1.2 has them, names as they are spelt, and lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.cli.output import yaml_of
from qvd.declarative.document import DEEPEST, DocumentError, parse

BOMB = "x0: &x0 [1]\n" + "".join(
    f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 20)}]\n" for level in range(1, 9)
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | NAMES
)
DOCUMENTS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(NAMES, VALUES, max_size=3))


@given(DOCUMENTS)
def test_what_is_written_is_read(document: dict[str, Any]) -> None:
    assert parse(yaml_of(document), "x").plain == document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("0x1F", 31),
        ("010", 10),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ("True", True),
        ("<<", "<<"),
        ("'1'", "1"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = parse(f"a: {text}", "x").plain["a"]
    assert found == value and type(found) is type(value)


def test_names_are_texts_and_have_lines() -> None:
    root = parse("# farm\n2026-01-02:\n  007: {no: 1}\n\n  ~: [1,\n   2]\n", "f")
    assert root.plain == {"2026-01-02": {"007": {"no": 1}, "~": [1, 2]}}
    inner = root.value["2026-01-02"]
    assert [str(inner.places[name]) for name in ("007", "~")] == ["f:3", "f:5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "f:2: 'a' stands here a second time (first: line 1)"),
        ("a: [1", "f:1: this is no YAML"),
        ("a: b: c", "f:1: this is no YAML"),
        ("? [1]\n: 2", "f:1: a name must be a text"),
        ("a: !!python/object/apply:os.system [ls]", "f:1: "),
        ("a: !!binary aGk=", "f:1: a value of the kind"),
        ("a: &x [*x]", "f:1: this is nested too deeply"),
        ("a\0b", "f:1: this is no YAML"),
        ("a: " + "[" * 5000, "f:1: this is no YAML"),
        ("a: " + "9" * 5000, "f:1: this number is too large"),
        ("a: " + "{a: " * (DEEPEST + 1) + "}" * (DEEPEST + 1), "nested too deeply"),
        ("--- 1\n--- 2\n", "f:2: this is no YAML"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as told:
        parse(text, "f").plain  # noqa: B018  whatever comes of it
    assert said in str(told.value)


def test_many_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qvd.declarative.document.MOST", 1000)
    with pytest.raises(DocumentError, match="there are more than 1000 values"):
        parse(BOMB, "f")
