# -*- test-case-name: tests.panel.test_forms -*-
"""What somebody typed, as values of JSON."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qvd.panel.filters import moment
from qvd.panel.references import number_named
from qvd.panel.texts import N_, UNITS
from qvd.panel.visit import Visit

if TYPE_CHECKING:
    from qvd.panel.forms import Input

SIZE = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
POWERS = "KMGTP"
LONGEST = 20
"""Digits of a size."""


class Invalid(Exception):
    """What is typed is no value; the text says why, in English."""


async def parse(visit: Visit, control: Input, skips_empty: bool) -> tuple[bool, Any]:
    """Whether there is a value, and which."""
    name, form = control.name, visit.form
    text = form.one(name)
    match control.type:
        case "flag":
            return True, text == "true"
        case "ticks":
            values: list[Any] = [value for value in form.all(name) if value]
            numbers = all(value.isascii() and value.isdigit() for value in values)
            return bool(values) or not skips_empty, [int(value) for value in values] if numbers else values
        case "words":
            words = [part.strip() for part in text.split(",") if part.strip()]
            return bool(words) or not skips_empty, words
        case "password":
            return bool(text), text
        case "lines":
            text = text.replace("\r\n", "\n")
    if not text.strip():
        return empty(control, skips_empty)
    return True, await value_of(visit, control, text)


def empty(control: Input, skips_empty: bool) -> tuple[bool, Any]:
    """Nothing is typed: that is no value, or the value that there is none, or an empty text."""
    if skips_empty:
        return False, None
    if control.nullable:
        return True, None
    if control.type in ("text", "lines"):
        return True, ""
    raise Invalid(N_("Something must stand here."))


async def value_of(visit: Visit, control: Input, text: str) -> Any:
    """@raise Invalid: it is none of the type."""
    text = text if control.type == "lines" else text.strip()
    match control.type:
        case "integer":
            return whole(text)
        case "number":
            try:
                return float(text.replace(",", "."))
            except ValueError:
                raise Invalid(N_("This is no number.")) from None
        case "size":
            return size(text)
        case "time":
            return time(text, visit)
        case "select" if text in ("true", "false"):
            return text == "true"
        case "reference":
            found = await number_named(visit, control.collection, text)
            if found is None:
                raise Invalid(N_("There is none of that name. Choose one from the list."))
            return found
        case _:
            return text


def time(text: str, visit: Visit) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(N_("This is no date with a time.")) from None
    return moment(text, visit.viewer.zone)


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(N_("This is no whole number.")) from None


def size(text: str) -> int:
    """Bytes, of C{4 GiB}, C{512M} or C{1048576}. Units are powers of 1024, whatever they are called."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise Invalid(N_("This is no size: write 512 MiB or 4 GiB."))
    power = POWERS.index(found[2].upper()) + 1 if found[2] else 0
    if len(found[1]) > LONGEST:
        raise Invalid(N_("This is no size: write 512 MiB or 4 GiB."))
    return int(float(found[1].replace(",", ".")) * 1024**power)


def shown_size(value: Any) -> str:
    """Bytes in the largest unit that leaves a whole number, so that nothing is rounded away."""
    if not isinstance(value, int):
        return ""
    power = 0
    while value and value % 1024 == 0 and power < len(UNITS) - 1:
        value //= 1024
        power += 1
    return f"{value} {UNITS[power]}"
