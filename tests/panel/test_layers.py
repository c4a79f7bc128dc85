"""The panel holds no rules and opens no doors: what it may use of the API's code, and what it may not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from qvd.panel.screens import SCREENS

PANEL = Path(__file__).resolve().parents[2] / "qvd" / "panel"
ALLOWED = {
    "qvd.admin.call",
    "qvd.admin.dispatch",
    "qvd.admin.endpoint",
    "qvd.admin.login.proofs",
    "qvd.admin.problems",
    "qvd.admin.queries",
    "qvd.admin.site",
    "qvd.admin.underway",
}
"""Calls and answers, and how they are declared; nothing that reads or writes what is stored."""


@pytest.mark.parametrize("path", sorted(PANEL.glob("*.py")), ids=lambda path: path.stem)
def test_pages_use_the_api_only(path: Path) -> None:
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("qvd.admin"):
            used.add(node.module)
        if isinstance(node, ast.Attribute) and node.attr == "services" and path.stem != "calls":
            # The clock is the one thing that pages take from there.
            assert path.stem == "site", f"{path.stem} reaches for the stores"
    assert used <= ALLOWED


@pytest.mark.parametrize("path", sorted(PANEL.glob("templates/*.html")), ids=lambda path: path.stem)
def test_templates_have_nothing_inline(path: Path) -> None:
    text = path.read_text()
    for wrong in ("|safe", "autoescape", "<style", " style=", "javascript:", " on", "http://", "https://"):
        if wrong == " on":
            assert not any(f" on{event}=" in text for event in ("click", "load", "error", "change", "submit"))
        else:
            assert wrong not in text, wrong


def test_scripts_write_texts() -> None:
    for path in PANEL.glob("static/*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML\s*\+?=[^=]", text), path.name
        for wrong in ("outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert wrong not in text, f"{path.name}: {wrong}"
        assert "https://" not in text and "http://" not in text


def test_there_are_screens() -> None:
    assert len(SCREENS) >= 3
