# -*- test-case-name: tests.cli.test_description -*-
"""The API's description (OpenAPI 3.1), read: which operations there are, what they take, what they are about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

BASE = "/api/v1"
METHODS = ("get", "head", "post", "put", "patch", "delete")
CONDITION = re.compile(r"(?P<field>.+)\[(?P<operator>[a-z]+)\]")
JSON = ("application/json", "application/merge-patch+json")
UPLOAD = "application/offset+octet-stream"
Schema = Mapping[str, Any]


@frozen
class Shape:
    """What a value is, as far as somebody who types it must know.

    @ivar kind: text, integer, number, boolean, time, secret, list, object or any.
    @ivar item: of a list.
    """

    kind: str
    nullable: bool = False
    choices: tuple[str, ...] = ()
    item: Shape | None = None
    text: str = ""


@frozen
class Parameter:
    """One of the path, the query string or the headers."""

    name: str
    shape: Shape
    required: bool = False


@frozen
class Member:
    """One of the body."""

    name: str
    shape: Shape
    required: bool = False


@frozen(kw_only=True)
class Operation:
    """One operation.

    @ivar action: its stable name: C{vm.start}.
    @ivar members: of the body, if it is a JSON object.
    @ivar takes: media type of the body; empty: there is none.
    @ivar produces: media types of what is answered when it goes well.
    @ivar begins: it may go on after the answer.
    @ivar conditions: names of fields that the query string narrows the answer by.
    """

    method: str
    path: str
    action: str
    summary: str
    tag: str
    path_parameters: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    conditions: Mapping[str, Shape] = field(factory=dict)
    members: tuple[Member, ...] = ()
    takes: str = ""
    produces: tuple[str, ...] = ()
    if_match: bool = False
    known_by: str = ""
    begins: bool = False

    def takes_query(self, *names: str) -> bool:
        """Whether it has all of these in its query string."""
        return set(names) <= {each.name for each in self.query}

    def member(self, name: str) -> Member | None:
        return next((each for each in self.members if each.name == name), None)

    @property
    def lists(self) -> bool:
        """Whether it answers page by page."""
        return self.takes_query("cursor")


@frozen
class Collection:
    """Objects of one kind.

    @ivar name: as in actions: C{vm}; C{collection}: as in paths: C{vms}.
    @ivar known_by: field that people know an object by; empty: they only have numbers.
    @ivar fields: that lists are narrowed by.
    @ivar bulk: operations that are offered for many, by the last word of their action.
    """

    name: str
    collection: str
    known_by: str
    fields: Mapping[str, Shape]
    searches: bool
    bulk: frozenset[str] = frozenset()


@define
class Description:
    """All of it."""

    operations: tuple[Operation, ...]
    collections: Mapping[str, Collection]
    """By the word in paths."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Description:
        """@param document: as the API answers it; what is not understood is passed over."""
        reader = Reader(document)
        operations = tuple(reader.operations())
        return cls(operations, collections_of(operations, reader))

    def get(self, action: str) -> Operation | None:
        return next((each for each in self.operations if each.action == action), None)

    def collection_of(self, operation: Operation) -> Collection | None:
        """Whose path it is under."""
        return self.collections.get(first_word(operation.path))

    def named(self, name: str) -> Collection | None:
        """The collection of objects that a member or a parameter names by number: C{user} of C{user_id}."""
        return next(
            (each for each in self.collections.values() if name in (each.name, singular(each.collection))), None
        )


def first_word(path: str) -> str:
    return path.strip("/").partition("/")[0]


def singular(word: str) -> str:
    return word.removesuffix("s")


def collections_of(operations: Sequence[Operation], reader: Reader) -> Mapping[str, Collection]:
    """Lists whose objects can be read one by one."""
    paths = {(each.method, each.path) for each in operations}
    found = {}
    for each in operations:
        word = each.path.strip("/")
        if each.method == "GET" and each.lists and "/" not in word and ("GET", f"/{word}/{{id}}") in paths:
            name = each.action.partition(".")[0]
            searches = ("POST", f"/{word}/search") in paths
            found[word] = Collection(name, word, each.known_by, each.conditions, searches, reader.bulk(word))
    return found


class Reader:
    """Finds its way in a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def operations(self) -> Iterable[Operation]:
        for path, item in self._document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self.operation(method.upper(), path.removeprefix(BASE), item[method])

    def operation(self, method: str, path: str, told: Mapping[str, Any]) -> Operation:
        parameters = told.get("parameters", ())
        query, conditions = self.query(each for each in parameters if each["in"] == "query")
        takes, members = self.body(told.get("requestBody", {}).get("content", {}))
        answers = [each for status, each in told.get("responses", {}).items() if status.startswith("2")]
        return Operation(
            method=method,
            path=path,
            action=told.get("x-qvd-action") or told.get("operationId", f"{method} {path}"),
            summary=told.get("summary", ""),
            tag=next(iter(told.get("tags", ())), ""),
            path_parameters=tuple(self.parameter(each) for each in parameters if each["in"] == "path"),
            query=query,
            conditions=conditions,
            members=members,
            takes=takes,
            produces=tuple(media for each in answers for media in self.resolved(each).get("content", {})),
            if_match=any(each["in"] == "header" and each["name"] == "If-Match" for each in parameters),
            known_by=told.get("x-qvd-known-by", ""),
            begins="202" in told.get("responses", {}),
        )

    def parameter(self, told: Mapping[str, Any]) -> Parameter:
        return Parameter(
            told["name"], self.shape(told["schema"], told.get("description", "")), told.get("required", False)
        )

    def query(self, told: Iterable[Mapping[str, Any]]) -> tuple[tuple[Parameter, ...], Mapping[str, Shape]]:
        """What is a parameter, and what a condition on a field."""
        listed = list(told)
        operands: dict[str, Shape] = {}
        for each in listed:
            found = CONDITION.fullmatch(each["name"])
            if found is not None and found["operator"] in ("eq", "gt"):
                operands[found["field"]] = self.shape(each["schema"], each.get("description", "").rpartition(":")[0])
        plain = [each for each in listed if each["name"] not in operands and CONDITION.fullmatch(each["name"]) is None]
        return tuple(self.parameter(each) for each in plain), operands

    def body(self, content: Mapping[str, Any]) -> tuple[str, tuple[Member, ...]]:
        media = next((each for each in JSON if each in content), next(iter(content), ""))
        if media not in JSON:
            return media, ()
        schema = self.resolved(content[media]["schema"])
        required = schema.get("required", ())
        members = (
            Member(name, self.shape(told), name in required) for name, told in schema.get("properties", {}).items()
        )
        return media, tuple(members)

    def bulk(self, word: str) -> frozenset[str]:
        """Names of the operations that can be asked for of many objects."""
        told = self._document["paths"].get(f"{BASE}/{word}/bulk", {}).get("post")
        if told is None:
            return frozenset()
        schema = self.resolved(told["requestBody"]["content"]["application/json"]["schema"])
        return frozenset(self.resolved(schema["properties"]["op"]).get("enum", ()))

    def resolved(self, schema: Any) -> Schema:
        """Behind a reference."""
        for _ in range(10):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            target: Any = self._document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            schema = target
        return schema if isinstance(schema, Mapping) else {}

    def shape(self, schema: Any, text: str = "") -> Shape:
        told = self.resolved(schema)
        text = text or told.get("description", "")
        if "anyOf" in told:
            parts = [self.resolved(each) for each in told["anyOf"]]
            rest = [each for each in parts if each.get("type") != "null"]
            nullable = len(rest) < len(parts)
            if len(rest) == 1:
                one = self.shape(rest[0], text)
                return Shape(one.kind, nullable, one.choices, one.item, one.text)
            kind = "object" if all(each.get("type") == "object" for each in rest) else "any"
            return Shape(kind, nullable, text=text)
        choices = tuple(str(each) for each in told.get("enum", ()))
        match told.get("type"):
            case "integer" | "number" | "boolean" | "object" as kind:
                return Shape(kind, choices=choices, text=text)
            case "array":
                return Shape("list", item=self.shape(told.get("items", {})), text=text)
            case "string":
                kind = {"date-time": "time", "password": "secret"}.get(told.get("format", ""), "text")
                return Shape(kind, choices=choices, text=text)
            case _:
                return Shape("text" if choices else "any", choices=choices, text=text)
