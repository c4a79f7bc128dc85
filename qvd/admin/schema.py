# -*- test-case-name: tests.admin.test_users -*-
"""Declared fields as msgspec types: what bodies are checked against, and what the API's description says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, defstruct

from qvd.admin.problems import Fault, Problem
from qvd.model.declared import Creates, Field, Kind, Resource

SMALLEST, LARGEST = -(1 << 31), (1 << 31) - 1
"""Of the database's integers."""
LONGEST_TEXT = 4096
SECRET = {"format": "password"}
"""What the description says of a text that is typed unseen, and never given in arguments of a program."""
ADDRESS = r"^(?:\d{1,3}\.){3}\d{1,3}$"


def annotation(field: Field, reading: bool = False) -> Any:
    """The type of a field's values.

    @param reading: in an answer, which is not checked against bounds that came later than the value.
    """
    made = bare(field, reading)
    return made | None if field.nullable else made


def bare(field: Field, reading: bool) -> Any:
    text = field.text
    if field.choices:
        return Annotated[Literal[field.choices], Meta(description=text)]
    match field.kind:
        case Kind.TEXT if reading:
            return Annotated[str, Meta(description=text)]
        case Kind.TEXT:
            least = None if field.least is None else int(field.least)
            most = LONGEST_TEXT if field.most is None else int(field.most)
            pattern = field.pattern or None
            extra = SECRET if field.secret else None
            bounds = Meta(min_length=least, max_length=most, pattern=pattern, description=text, extra_json_schema=extra)
            return Annotated[str, bounds]
        case Kind.ADDRESS:
            return Annotated[str, Meta(pattern=None if reading else ADDRESS, description=text)]
        case Kind.INTEGER:
            if reading:
                return Annotated[int, Meta(description=text)]
            least = SMALLEST if field.least is None else int(field.least)
            most = LARGEST if field.most is None else int(field.most)
            return Annotated[int, Meta(ge=least, le=most, description=text)]
        case Kind.NUMBER:
            return Annotated[float, Meta(description=text, ge=None if reading else field.least)]
        case Kind.BOOLEAN:
            return Annotated[bool, Meta(description=text)]
        case Kind.TIME:
            return Annotated[datetime, Meta(tz=True, description=text)]
        case Kind.OBJECT:
            return Annotated[dict[str, Any], Meta(description=text)]
        case Kind.LIST:
            return Annotated[list[Any], Meta(description=text)]


def struct(name: str, fields: Iterable[tuple[Any, ...]]) -> Any:
    """A msgspec type that refuses unknown members."""
    return defstruct(name, list(fields), forbid_unknown_fields=True, kw_only=True)


def creation(resource: Resource) -> Any:
    """Body that makes an object."""
    fields: list[tuple[Any, ...]] = []
    for field in resource.fields:
        if field.creates is Creates.MUST:
            fields.append((field.name, annotation(field)))
        elif field.creates is Creates.MAY:
            fields.append((field.name, annotation(field) | UnsetType, UNSET))
    return struct(f"{resource.name.title()}Creation", fields)


def change(resource: Resource) -> Any:
    """Body that changes an object: a merge patch (RFC 7396)."""
    fields = [(field.name, annotation(field) | UnsetType, UNSET) for field in resource.fields if field.update_acl]
    return struct(f"{resource.name.title()}Change", fields)


def item(resource: Resource) -> Any:
    """An object in an answer. What the caller may not see is absent."""
    fields: list[tuple[Any, ...]] = [("id", int)]
    fields += [
        (field.name, annotation(field, reading=True) | UnsetType, UNSET)
        for field in resource.fields
        if field.sql and field.name != "id"
    ]
    fields.append(("_actions", list[str] | UnsetType, UNSET))
    return struct(resource.name.title(), fields)


class PageInfo(msgspec.Struct, forbid_unknown_fields=True):
    """Where in a collection a page is."""

    limit: int
    next: str | None
    prev: str | None
    total: int | None
    total_exact: bool


def page(resource: Resource, item_type: Any) -> Any:
    """A page of a collection."""
    return struct(f"{resource.name.title()}Page", [("items", list[item_type]), ("page", PageInfo)])


def given(body: Any) -> dict[str, Any]:
    """Members that were sent."""
    return {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}


UNKNOWN = re.compile(r"unknown field `([^`]*)`")
MISSING = re.compile(r"missing required field `([^`]*)`")
PLACE = re.compile(r" - at `([^`]*)`$")


def decoder(body: Any) -> Callable[[bytes], Any]:
    """Reads and checks a body; raises L{Problem}."""
    decode = msgspec.json.Decoder(body).decode

    def read(raw: bytes) -> Any:
        if b"\\u0000" in raw:
            raise Problem("invalid-value", "Texts cannot hold the character NUL", [Fault("", "has a NUL")])
        try:
            return decode(raw)
        except msgspec.ValidationError as error:
            raise problem_of(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("malformed-request", f"The body is no valid JSON: {error}") from None

    return read


def problem_of(text: str) -> Problem:
    """What msgspec says, as a problem. Source of its words: msgspec's error messages, which its own tests fix."""
    place = PLACE.search(text)
    pointer = "/" + "/".join(re.findall(r"[^.\[\]$]+", place[1])) if place else ""
    said = PLACE.sub("", text)
    for pattern, kind in ((UNKNOWN, "unknown-attribute"), (MISSING, "missing-attribute")):
        if found := pattern.search(said):
            pointer = f"{pointer.rstrip('/')}/{found[1]}"
            return Problem(kind, f"{said[0].upper()}{said[1:]}", [Fault(pointer, said, kind)])
    return Problem("invalid-value", f"{said[0].upper()}{said[1:]}", [Fault(pointer, said)])
