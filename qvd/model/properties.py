# -*- test-case-name: tests.unit.test_model_properties -*-
"""
Custom properties: what their values are. They are stored as text, which is what nodes and guests get.

Keys that begin with C{qvd.} are the product's own and need no definition: a mistyped one is refused, not a new label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from urllib.parse import quote

from qvd.model import affinity
from qvd.model.errors import InvalidRequest
from qvd.model.nxparameters import EXTRA, PARAMETER, check_value, extra_options

PRODUCT = "qvd."
LONGEST_KEY, LONGEST = 256, 32768
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1
SERVERS = frozenset(("auth_token", "host_address", "qvd.slave.key", "qvd.vm.user.name"))
"""Parameters of a session that only the server says."""
ROOM = 24 * 1024
"""Bytes of a call to the agent that properties may take: an agent reads 64 KiB at most."""
_FLAGS = ("printing.enabled", "usb.enabled", "audio.compression.enable")
_GUEST = {
    **{f"qvd.client.{name}": r"[01]?" for name in _FLAGS},
    "qvd.client.printing.flavor": r"[a-z0-9]{0,32}",
    "qvd.client.usb.implementation": r"[A-Za-z]{0,32}",
    "qvd.client.timezone": r"[A-Za-z0-9_+/-]{0,64}",
    "qvd.client.type": r"[A-Za-z0-9_.+-]{0,64}",
    "qvd.vm.user.uid": r"[0-9]{0,10}",
    "qvd.vm.user.gid": r"[0-9]{0,10}",
    "qvd.vm.user.group": r"[a-z_][a-z0-9_.-]{0,31}|",
    "qvd.vm.user.groups": r"[a-z0-9_., -]{0,1024}",
    "qvd.vm.user.home": r"/[A-Za-z0-9_.@/-]{1,200}|",
}
"""What an administrator may force upon the sessions of a VM, besides the NX options."""

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
    check = None if kind == "host" else guest_check(key)
    if check is not None:
        check(text)
        return
    if not key.startswith(affinity.PREFIX) or kind == "host":
        raise InvalidRequest(f"There is no property {key} of QVD's own")
    try:
        affinity.check_rule(key, text)
    except affinity.WrongRule as error:
        raise InvalidRequest(error.text[:1].upper() + error.text[1:]) from None


def guest_check(key: str) -> Callable[[str], object] | None:
    """What checks the values of one of the product's own keys that is a parameter of sessions; L{None}: it is none."""
    if key == EXTRA:
        return extra_options
    if key in PARAMETER.values():
        return lambda text: check_value(key, text)
    pattern = _GUEST.get(key)
    return None if pattern is None else lambda text: check_pattern(key, pattern, text)


def check_pattern(key: str, pattern: str, text: str) -> None:
    """@raise InvalidRequest: it does not match."""
    if not re.fullmatch(pattern, text, re.ASCII):
        raise InvalidRequest(f"{key} does not take that value")


def forced(parameters: Mapping[str, str], properties: Mapping[str, str]) -> tuple[Mapping[str, str], list[str]]:
    """The parameters of a session, with the properties of its VM on top: what an administrator says counts more than
    what the client wishes, and less than what only the server says. Placement rules are no business of the guest.

    @return: also the keys that were left out because there are too many.
    """
    made, left_out, room = dict(parameters), [], ROOM
    for key in sorted(properties):
        if key in SERVERS or key.startswith(affinity.PREFIX):
            continue
        room -= len(quote(key, safe="")) + len(quote(properties[key], safe="")) + 2
        if room < 0:
            left_out.append(key)
            room += len(quote(key, safe="")) + len(quote(properties[key], safe="")) + 2
        else:
            made[key] = properties[key]
    return made, left_out
