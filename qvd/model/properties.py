# -*- test-case-name: tests.unit.test_model_properties -*-
"""
Custom properties: what their values are. They are stored as text, which is what nodes and guests get.

Keys that begin with C{qvd.} are the product's own and need no definition: a mistyped one is refused, not a new label.
"""

from __future__ import annotations

from enum import Enum

from qvd.model import affinity
from qvd.model.errors import InvalidRequest

PRODUCT = "qvd."
LONGEST_KEY, LONGEST = 256, 32768
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1

Value = str | int | bool


class PropertyType(Enum):
    """What the values of a property are. A C{SECRET} is text that is never shown."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    SECRET = "secret"


def stored(kind: PropertyType, value: Value) -> str:
    """A value as text. What was typed as text passes for a number or a truth value.

    @raise InvalidRequest: it is none of the type; the sentence does not repeat it.
    """
    match kind:
        case PropertyType.INTEGER:
            return whole(value)
        case PropertyType.BOOLEAN:
            text = str(value).lower() if isinstance(value, bool | str) else ""
            if text not in ("true", "false"):
                raise InvalidRequest("The value is true or false")
            return text
        case PropertyType.TEXT | PropertyType.SECRET:
            if not isinstance(value, str):
                raise InvalidRequest("The value is a text")
            if len(value) > LONGEST or "\0" in value:
                raise InvalidRequest(f"The value has {LONGEST} characters at most, and no NUL")
            return value


def whole(value: Value) -> str:
    """A whole number as text."""
    if isinstance(value, str) and len(value) < 21 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not SMALLEST <= value <= LARGEST:
        raise InvalidRequest("The value is a whole number")
    return str(value)


def shown(kind: PropertyType, text: str) -> Value | None:
    """A stored value as people are shown it. One of before the type was chosen stays the text that it is."""
    match kind:
        case PropertyType.SECRET:
            return None
        case PropertyType.INTEGER if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 21:
            return int(text)
        case PropertyType.BOOLEAN if text in ("true", "false"):
            return text == "true"
        case _:
            return text


def check_product(kind: str, key: str, text: str) -> None:
    """A value of one of the product's own keys.

    @param kind: of the object.
    @raise InvalidRequest: there is no such key for objects of the kind, or the value is none of it.
    """
    if not key.startswith(affinity.PREFIX) or kind == "host":
        raise InvalidRequest(f"There is no property {key} of QVD's own")
    try:
        affinity.check_rule(key, text)
    except affinity.WrongRule as error:
        raise InvalidRequest(error.text[:1].upper() + error.text[1:]) from None
