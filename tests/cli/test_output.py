"""Results, as tables and for programs."""

from __future__ import annotations

import json
from io import StringIO
from time import tzset
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qvd.cli.output import FORMATS, Screen, flat
from qvd.cli.text import cell, plain, safe_json
from tests.cli.terminal import Tty

ROWS: list[dict[str, Any]] = [
    {"id": 1, "name": 'a, "b"\nc', "blocked": True, "tags": ["x", "y"], "more": {"k": None}},
    {"id": 2, "name": "\x1b[31mred\u202e", "blocked": False, "tags": [], "more": None},
]


def written(format: str, rows: list[dict[str, Any]] = ROWS, tty: bool = False, **more: Any) -> str:
    out = Tty() if tty else StringIO()
    Screen(out, StringIO(), format, **more).rows(rows)
    return out.getvalue()


def test_for_programs() -> None:
    assert json.loads(written("json")) == ROWS
    assert [json.loads(line) for line in written("ndjson").splitlines()] == ROWS
    assert yaml.safe_load(written("yaml")) == ROWS
    assert written("csv", ROWS[:1]).split("\r\n")[0] == "id,name,blocked,tags,more"
    assert '1,"a, ""b""\nc",true,"[""x"",""y""]","{""k"":null}"\r\n' in written("csv")
    assert written("csv", header=False).startswith("1,")
    assert written("table", quiet=True) == "1\n2\n"


def test_tables_in_pipes_are_plain() -> None:
    rows = [{"id": 1, "name": "a b", "on": True}, {"id": 12, "name": "longer", "on": None}]
    assert written("table", rows) == "id  name    on\n1   a b     yes\n12  longer\n"
    assert written("table", rows, header=False) == "1   a b     yes\n12  longer\n"
    assert written("table", []) == ""


@pytest.mark.parametrize("format", FORMATS)
def test_names_cannot_command_a_terminal(format: str) -> None:
    text = written(format, tty=format == "csv")
    assert "\x1b" not in text and "\u202e" not in text
    drawn = written("table", tty=True)
    assert "red" in drawn and "\x1b[31m" not in drawn and "\u202e" not in drawn


def test_markup_is_text() -> None:
    assert "[bold]x[/bold] :smile:" in written("table", [{"name": "[bold]x[/bold] :smile:"}], tty=True)


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in written("table", tty=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in written("table", tty=True)
    screen = Screen(StringIO(), Tty())
    screen.complain("x")
    assert screen.err.getvalue() == "Error: x\n"  # type: ignore[attr-defined]


def test_one_object() -> None:
    screen = Screen(StringIO(), StringIO())
    screen.document({"id": 1, "name": "x", "nodes": [{"name": "n", "taken": True}]})
    text: str = screen.out.getvalue()  # type: ignore[attr-defined]
    assert [line.split() for line in text.splitlines()] == [
        ["id", "1"],
        ["name", "x"],
        [],
        ["nodes:"],
        ["name", "taken"],
        ["n", "yes"],
    ]


@given(st.text())
def test_plain_texts_are_printable(text: str) -> None:
    assert plain(text).isprintable()
    assert json.loads(safe_json({"a": [text]})) == {"a": [text]}
    assert safe_json(text).isprintable()


def test_moments_in_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Madrid")
    tzset()
    try:
        assert cell("2026-07-01T10:00:00.123456Z") == "2026-07-01 12:00:00"
        assert cell("2026-13-01T10:00:00Z") == "2026-13-01T10:00:00Z"
    finally:
        monkeypatch.undo()
        tzset()


def test_members_of_members() -> None:
    assert flat({"vms": {"total": 1, "by_state": {"running": 1}}, "none": {}}) == {
        "vms.total": 1,
        "vms.by_state.running": 1,
        "none": {},
    }
