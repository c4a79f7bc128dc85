"""What may be said to users."""

from __future__ import annotations

import re

import pytest

from qvd.model.errors import InvalidRequest
from qvd.model.messages import LONGEST, PATTERN, check_text


def test_what_is_shown() -> None:
    assert (
        check_text("  The node stops at 22:00.\nSave your work: ¡ya! 🙂 \n")
        == "The node stops at 22:00.\nSave your work: ¡ya! 🙂"
    )
    assert check_text("x" * LONGEST) == "x" * LONGEST


@pytest.mark.parametrize(
    "text", ["", " \n ", "a\0b", "a\tb", "a\x1b[2J", "a\x7f", "a\x9b", "a\u202eb", "a\u2028b", "x" * (LONGEST + 1)]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_text(text)


def test_the_pattern_says_the_same() -> None:
    for code in range(0x2100):
        text = f"a{chr(code)}b"
        try:
            check_text(text)
            wrong = False
        except InvalidRequest:
            wrong = True
        assert wrong == (re.search(PATTERN, text) is None), hex(code)
