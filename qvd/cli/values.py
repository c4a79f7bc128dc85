# -*- test-case-name: tests.cli.test_values -*-
"""What is typed for an option, as the value that the API's description wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml

from qvd.cli.description import Shape
from qvd.cli.exits import usage
from qvd.cli.moments import EXAMPLES, here, moment, written

Find = Callable[[str, str], int | None]
"""The number of an object, of the word for its kind and of its name; L{None}: it is no kind of objects."""


def value_of(name: str, shape: Shape, text: str, find: Find) -> Any:
    """@raise CommandError: it is no such value. What the API checks better is not checked here."""
    match shape.kind:
        case "integer":
            found = find(name.removesuffix("_id"), text) if name.endswith("_id") else None
            return whole(name, text) if found is None else found
        case "number":
            return real(name, text)
        case "boolean":
            return truth(name, text)
        case "time":
            at = moment(text, here())
            if at is None:
                raise usage(f"{name} is a moment ({EXAMPLES}), not {text!r}")
            return written(at)
        case "list":
            return list_of(name, shape, [text], find)
        case "object":
            return object_of(name, [text])
        case "any":
            return anything(text)
        case _:
            return text


def whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise usage(f"{name} is a whole number, not {text!r}") from None


def real(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise usage(f"{name} is a number, not {text!r}") from None


def truth(name: str, text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "on"):
        return True
    if text.lower() in ("false", "no", "0", "off"):
        return False
    raise usage(f"{name} is true or false, not {text!r}")


def anything(text: str) -> Any:
    """JSON; and a text, where it is none. A text of digits alone is put in double quotes, as in JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def list_of(name: str, shape: Shape, texts: Sequence[str], find: Find) -> list[Any]:
    """Given several times, or with commas, or as JSON."""
    found: list[Any] = []
    item = shape.item or Shape("any")
    for text in texts:
        if text.startswith("["):
            given = anything(text)
            if not isinstance(given, list):
                raise usage(f"{name} is a list, not {text!r}")
            found += given
            continue
        for part in filter(None, (each.strip() for each in text.split(","))):
            number = find(name.removesuffix("s"), part) if item.kind in ("any", "integer") else None
            found.append(
                number if number is not None else part if item.kind == "any" else value_of(name, item, part, find)
            )
    return found


def object_of(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """C{key=value}, given several times; or JSON."""
    found: dict[str, Any] = {}
    for text in texts:
        if text.startswith("{"):
            given = anything(text)
            if not isinstance(given, dict):
                raise usage(f"{name} is no JSON object: {text!r}")
            found |= given
            continue
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise usage(f"{name} is given as KEY=VALUE, not {text!r}")
        found[key] = anything(value)
    return found


class PlainLoader(yaml.SafeLoader):
    """Leaves what looks like a date as it is written: JSON has none."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_body(place: str, stdin: TextIO) -> dict[str, Any]:
    """A file of JSON or YAML; C{-} is standard input."""
    try:
        text = stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except OSError as error:
        raise usage(f"{place} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise usage(f"{place} is no text") from None
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, PlainLoader)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise usage(f"{place} is neither JSON nor YAML") from None
    if not isinstance(found, dict):
        raise usage(f"{place} holds no object")
    return found
