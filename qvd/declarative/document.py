# -*- test-case-name: tests.unit.test_declarative_document -*-
"""
Documents, as YAML 1.2 has its values (C{no} is a text), each with the line where it stands. Names of members are texts
however they are spelt: an image's version may look like a day, a user's name like a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from attrs import field, frozen

DEEPEST, LARGEST, MOST = 12, 64 * 1024**2, 2_000_000
"""Levels, characters, and values: aliases make many of few."""


class DocumentError(Exception):
    """A document that cannot be meant. Its text begins with where."""

    def __init__(self, place: Place | None, text: str) -> None:
        super().__init__(f"{place}: {text}" if place is not None else text)


@frozen
class Place:
    """@ivar line: from 1 on."""

    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"


@frozen
class Node:
    """A value with its place.

    @ivar value: of a mapping, nodes by name; of a list, nodes; else what it is.
    @ivar places: of a mapping, where its names stand.
    """

    value: Any
    place: Place
    places: Mapping[str, Place] = field(factory=dict)

    @property
    def plain(self) -> Any:
        """Without places."""
        if isinstance(self.value, dict):
            return {name: node.plain for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain for node in self.value]
        return self.value

    def members(self, what: str) -> Iterator[tuple[str, Node, Place]]:
        """Of a mapping; nothing at all is an empty one.

        @raise DocumentError: it is none.
        """
        if self.value is None:
            return
        if not isinstance(self.value, dict):
            raise DocumentError(self.place, f"{what} must be a mapping: names, each with a colon")
        for name, node in self.value.items():
            yield name, node, self.places[name]


class Loader(yaml.SafeLoader):
    """With YAML 1.2's core schema: C{on}, C{no} and C{12:30} are texts."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


SCALARS = (
    ("null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$",
        list("-+.0123456789"),
    ),
)
for tag, pattern, first in SCALARS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def parse(text: str, source: str) -> Node:
    """@raise DocumentError: it is no YAML, or holds what no farm has."""
    if len(text) > LARGEST:
        raise DocumentError(None, f"{source} has more than {LARGEST} characters")
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1) if mark is not None else None
        raise DocumentError(place, f"this is no YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DocumentError(Place(source, 1), "this is no YAML") from None
    if root is None:
        return Node({}, Place(source, 1))
    return Builder(source).build(root, DEEPEST)


class Builder:
    """Makes L{Node}s of what the library composed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._made = 0

    def build(self, root: yaml.Node, levels: int) -> Node:
        place = Place(self._source, root.start_mark.line + 1)
        self._made += 1
        if not levels or self._made > MOST:
            raise DocumentError(
                place, "this is nested too deeply" if not levels else f"there are more than {MOST} values"
            )
        if isinstance(root, yaml.ScalarNode):
            return Node(scalar(root, place), place)
        if root.tag not in PLAIN:
            raise DocumentError(place, f"a value of the kind {root.tag!r} means nothing here")
        if isinstance(root, yaml.SequenceNode):
            return Node([self.build(each, levels - 1) for each in root.value], place)
        return self._mapping(root, place, levels)

    def _mapping(self, root: yaml.Node, place: Place, levels: int) -> Node:
        values: dict[str, Node] = {}
        places: dict[str, Place] = {}
        for key, value in root.value:
            at = Place(self._source, key.start_mark.line + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError(at, "a name must be a text")
            name = key.value
            if name in values:
                raise DocumentError(at, f"{name!r} stands here a second time (first: line {places[name].line})")
            values[name], places[name] = self.build(value, levels - 1), at
        return Node(values, place, places)


PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def scalar(root: yaml.Node, place: Place) -> Any:
    text: str = root.value
    match root.tag.rpartition(":")[2]:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) < 30:
                return int(text, 16) if text.startswith("0x") else int(text)
            raise DocumentError(place, "this number is too large")
        case "float":
            return float(text)
        case _:
            raise DocumentError(place, f"a value of the kind {root.tag!r} means nothing here")
