"""L{qvd.client.cli}: what is printed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.internet.task import Clock

from qvd.client.cli import Timeline, ask, table
from qvd.client.session import VM


def test_table() -> None:
    rows = [
        VM(1, "a\x1b", {"id": 1, "name": "a\x1b", "state": "stopped", "blocked": 1}),
        VM(1000, "desktop", {"id": 1000, "name": "desktop", "state": None, "blocked": 0}),
    ]
    assert table(rows).splitlines() == [
        "ID    NAME     STATE",
        "1     a?       stopped  blocked",
        "1000  desktop  ?",
    ]
    assert table(()) == "You have no virtual machine on this server"


def test_timeline(capsys: Any) -> None:
    clock = Clock()
    clock.advance(100)
    timeline = Timeline(clock)
    clock.advance(0.0125)
    timeline.mark("list")
    clock.advance(1)
    timeline.tell("Starting")
    assert timeline.events == [{"ms": 12.5, "event": "list"}, {"ms": 1012.5, "event": "Starting"}]
    assert capsys.readouterr().err == "Starting\n"


def test_nobody_is_asked_without_a_terminal(monkeypatch: Any) -> None:
    class Stdin:
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Stdin())
    with pytest.raises(EOFError):
        ask("Password: ")
