# -*- test-case-name: tests.cli.test_output -*-
"""Values as text. What an administrator named a thing must not be able to command the terminal of another one."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
"""As the API writes one (RFC 3339)."""


def plain(text: str) -> str:
    """Without what a terminal takes for a command, or for the end of a line; and without what turns text round."""
    return "".join(letter if letter.isprintable() else escaped(letter) for letter in text)


def escaped(letter: str) -> str:
    number = ord(letter)
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(
        letter, f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
    )


def lines(text: str) -> str:
    """The same for texts of several lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def cell(value: Any) -> str:
    """A value in a table."""
    match value:
        case None:
            return ""
        case True | False:
            return "yes" if value else "no"
        case list() if all(isinstance(each, str | int | float) for each in value):
            return plain(", ".join(str(each) for each in value))
        case list() | dict():
            return plain(compact(value))
        case str() if MOMENT.fullmatch(value):
            return clock(value)
        case _:
            return plain(str(value))


def clock(text: str) -> str:
    """A moment by the clock on the wall, to the second."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return text


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def safe_json(value: Any, indent: int | None = None) -> str:
    """JSON, in which control characters beyond ASCII are escaped as well."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return "".join(each if each == "\n" or each.isprintable() else json.dumps(each)[1:-1] for each in text)
