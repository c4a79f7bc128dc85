# -*- test-case-name: tests.unit.test_declarative_plan -*-
"""
Steps as calls of the API. The number of an object that is made on the way is known only then: a L{Ref} stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from attrs import frozen

from qvd.declarative.kinds import BY_NAME, Fields, Item, Key
from qvd.declarative.plan import MISSING, Step, osf_key
from qvd.declarative.reading import Farm
from qvd.declarative.roles import role_key
from qvd.declarative.wanted import Wanted

DEFAULT = "default"


@frozen
class Ref:
    """The number of an object."""

    kind: str
    key: Key


@frozen
class Password:
    """One that nobody knows: an account gets a real one afterwards."""


@frozen
class Call:
    """@ivar path: parts, some of which are L{Ref}s. In C{body} likewise.
    @ivar makes: what it makes; its number is that of the answer.
    """

    method: str
    path: tuple[str | Ref, ...]
    body: Any = None
    makes: Ref | None = None


@frozen
class Calls:
    """Makes calls of steps."""

    wanted: Wanted
    farm: Farm
    fields: Mapping[str, Fields]

    def of(self, step: Step) -> Sequence[Call]:
        """In order."""
        match step.verb:
            case "create":
                return list(self.creation(step.item))
            case "change":
                return list(self.change(step))
            case "delete":
                return [Call("DELETE", self.path(step.item))]
            case _:
                return []

    def path(self, item: Item, *below: str | Ref) -> tuple[str | Ref, ...]:
        return (f"/{BY_NAME[item.kind].collection}/", Ref(item.kind, item.key), *below)

    def creation(self, item: Item) -> Iterator[Call]:
        kind = BY_NAME[item.kind]
        body: dict[str, Any] = {kind.known_by: item.name}
        body |= {name: value for name, value in item.values.items() if name in self.fields[item.kind].created}
        body |= self.created_facets(item)
        if kind.parent == "tenant" and self.farm.over_all:
            body["tenant_id"] = Ref("tenant", item.key[:1])
        yield Call("POST", (f"/{kind.collection}",), body, Ref(item.kind, item.key))
        later = {name: value for name, value in item.values.items() if name in ("quotas", "configuration") and value}
        later |= {
            name: value
            for name, value in item.values.items()
            if name in self.fields[item.kind].changed - self.fields[item.kind].created
        }
        if later:
            changes: dict[str, tuple[Any, Any]] = {name: ({}, value) for name, value in later.items()}
            yield from self.change(Step("change", item, None, changes))

    def created_facets(self, item: Item) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("kinds", "acls"):
            if name in item.values:
                found[name] = item.values[name]
        given = {key: value for key, value in item.values.get("properties", {}).items() if value is not None}
        if given:
            found["properties"] = given
        if item.values.get("roles"):
            found["roles"] = [self.role(item, name) for name in item.values["roles"]]
        if item.kind == "administrator":
            found["password"] = Password()
        if item.kind == "vm":
            found |= {"user_id": Ref("user", item.key[:-1]), "osf_id": Ref("osf", osf_key(item))}
        return found

    def role(self, item: Item, name: str) -> Ref:
        key = role_key(item.key[0], name, self.wanted, self.farm)
        assert key is not None, "references are checked"
        return Ref("role", key)

    def change(self, step: Step) -> Iterator[Call]:
        item, changes = step.item, step.changes
        if item.kind == "configuration":
            yield configuration({key: new for key, (_, new) in changes.items()}, {})
            return
        body: dict[str, Any] = {
            name: new for name, (_, new) in changes.items() if name in self.fields[item.kind].changed
        }
        if "properties" in changes:
            body["properties"] = changes["properties"][1]
        if "osf" in changes:
            body["osf_id"] = Ref("osf", osf_key(item))
        if body:
            yield Call("PATCH", self.path(item), body)
        old, new = step.changes.get("acls", (None, None))
        if old is not None:
            gone = {sign: sorted({*old[sign]} - {*new["positive"], *new["negative"]}) for sign in old}
            yield from self.acls(item, gone["negative"], gone["positive"])
        yield from self.changed_facets(step)
        if new is not None:
            yield from self.acls(item, new["positive"], new["negative"])

    def changed_facets(self, step: Step) -> Iterator[Call]:
        item = step.item
        for name, (old, new) in step.changes.items():
            match name:
                case "configuration":
                    yield configuration(new, {f"{item.kind}_id": Ref(item.kind, item.key)})
                case "quotas":
                    before = step.was.values.get("quotas", {}) if step.was else {}
                    yield Call("PUT", self.path(item, "/quotas"), {**before, **new})
                case "acls":
                    pass
                case "roles" | "kinds":
                    yield from self.members(item, name, old or (), new)
                case "tags":
                    yield from self.tags(item, old or (), new)
                case "state":
                    verb = {"published": "publish", "retired": "retire", "ready": "unpublish"}[new]
                    yield Call("POST", self.path(item, f"/{verb}"), {} if verb == "publish" else None)

    def acls(self, item: Item, grant: Sequence[str], revoke: Sequence[str]) -> Iterator[Call]:
        """What goes goes before the roles that are inherited change, and what comes comes afterwards: a permission that
        is inherited is granted by not being excluded any more, and revoked by being excluded."""
        if grant or revoke:
            yield Call("PATCH", self.path(item, "/acls"), {"grant": list(grant), "revoke": list(revoke)})

    def members(self, item: Item, name: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Call]:
        below = "/kinds/" if name == "kinds" else "/parents/" if item.kind == "role" else "/roles/"
        for method, some in (("PUT", [each for each in new if each not in old]), ("DELETE", old)):
            for each in some:
                if method == "DELETE" and each in new:
                    continue
                last = quote(each, safe="") if name == "kinds" else self.role(item, each)
                yield Call(method, self.path(item, below, last))

    def tags(self, item: Item, old: Sequence[str], new: Sequence[str]) -> Iterator[Call]:
        """What another image of the document takes over goes by that; C{default} goes in no other way."""
        for tag in new:
            if tag not in old:
                yield Call("PUT", self.path(item, "/tags/", quote(tag, safe="")))
        others = [
            other.values.get("tags", ())
            for other in self.wanted.items.values()
            if other.kind == item.kind and other.key[:-1] == item.key[:-1] and other.key != item.key
        ]
        for tag in old:
            if tag not in new and tag != DEFAULT and not any(tag in held for held in others):
                yield Call("DELETE", self.path(item, "/tags/", quote(tag, safe="")))


def configuration(changes: Mapping[str, Any], place: Mapping[str, Any]) -> Call:
    gone = [key for key, value in changes.items() if value is MISSING or value is None]
    kept = {key: value for key, value in changes.items() if key not in gone}
    return Call("PATCH", ("/config",), {"set": kept, "reset": gone, **place})


def numbers_of(farm: Farm) -> dict[Ref, int]:
    """Of what is there."""
    return {Ref(item.kind, item.key): item.number for item in farm.items.values() if item.number is not None}


def filled(value: Any, numbers: Mapping[Ref, int], password: str) -> Any:
    """With numbers in the place of references."""
    match value:
        case Ref():
            return numbers[value]
        case Password():
            return password
        case dict():
            return {name: filled(inner, numbers, password) for name, inner in value.items()}
        case list():
            return [filled(inner, numbers, password) for inner in value]
        case _:
            return value


def target(call: Call, numbers: Mapping[Ref, int]) -> str:
    """The path."""
    return "".join(each if isinstance(each, str) else str(numbers[each]) for each in call.path)
