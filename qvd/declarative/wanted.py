# -*- test-case-name: tests.unit.test_declarative_plan -*-
"""The objects that a document wants. Everything that is wrong with it, beyond what only the API knows, is said here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from qvd.declarative.document import DocumentError, Node, Place
from qvd.declarative.kinds import Fields, Item, Key, Kind, children, spelt

FORMAT = 1
LISTS = ("tags", "kinds", "roles")
MAPPINGS = ("properties", "configuration", "quotas", "acls")
QUOTAS = ("users", "vms", "running_vms")
STATES = ("ready", "published", "retired")
SIGNS = ("positive", "negative")


@frozen
class Wanted:
    """A whole document.

    @ivar sections: of the document itself.
    """

    items: Mapping[tuple[str, Key], Item]
    sections: frozenset[str]
    configuration: Item | None


def read(root: Node, fields: Mapping[str, Fields]) -> Wanted:
    """@raise DocumentError: it says something that cannot be meant."""
    found: dict[tuple[str, Key], Item] = {}
    sections, configuration = set(), None
    top = children("")
    allowed = ("qvd", "configuration", *top)
    for name, node, place in root.members("A farm"):
        if name == "qvd":
            if node.value != FORMAT:
                raise DocumentError(place, f"this program knows documents of the form {FORMAT} only")
        elif name == "configuration":
            configuration = Item("configuration", (), "", mapping(node, name), {"": place, **node.places})
        elif name in top:
            sections.add(name)
            read_section(found, top[name], (), node, fields)
        else:
            raise unknown(place, "A farm", name, allowed)
    return Wanted(found, frozenset(sections), configuration)


def read_section(
    found: dict[tuple[str, Key], Item], kind: Kind, parent: Key, node: Node, fields: Mapping[str, Fields]
) -> None:
    for name, inner, place in node.members(kind.section):
        read_item(found, kind, parent, name, inner, place, fields)


def read_item(
    found: dict[tuple[str, Key], Item],
    kind: Kind,
    parent: Key,
    name: str,
    node: Node,
    place: Place,
    fields: Mapping[str, Fields],
) -> None:
    key = (*parent, spelt(kind, name))
    title = f"{kind.name} {'/'.join((*parent, name))}"
    if not name:
        raise DocumentError(place, f"a {kind.name} without a name")
    if (kind.name, key) in found:
        raise DocumentError(place, f"{title} is here a second time: upper and lower case are the same")
    inside, known = children(kind.name), fields[kind.name].all
    values: dict[str, Any] = {}
    places: dict[str, Place] = {"": place}
    sections = set()
    deeper: list[tuple[Kind, Node]] = []
    for member, inner, at in node.members(title):
        if member in inside:
            sections.add(member)
            deeper.append((inside[member], inner))
        elif member in kind.facets:
            values[member] = facet(title, member, inner)
            places[member] = at
        elif member in known:
            values[member] = inner.plain
            places[member] = at
        else:
            raise unknown(at, title, member, (*known, *kind.facets, *inside))
    if kind.name == "vm" and not isinstance(values.get("osf"), str):
        raise DocumentError(places.get("osf", place), f"{title} needs an osf: the name of one")
    found[kind.name, key] = Item(kind.name, key, name, values, places, None, frozenset(sections))
    for deep, inner in deeper:
        read_section(found, deep, key, inner, fields)


def facet(title: str, name: str, node: Node) -> Any:
    """A member that the API has at a place of its own.

    @raise DocumentError: it is not of its form.
    """
    if name in LISTS:
        return texts(node, f"{name} of {title}")
    if name == "acls":
        given = {sign: texts(inner, f"acls of {title}") for sign, inner, _ in node.members(f"acls of {title}")}
        check_names(node, title, given, SIGNS)
        for name in (name for names in given.values() for name in names):
            if "*" in name:
                raise DocumentError(node.place, f"acls of {title} are whole names, and {name!r} is none")
        return {sign: given.get(sign, []) for sign in SIGNS}
    if name in MAPPINGS:
        found = mapping(node, f"{name} of {title}")
        if name == "quotas":
            check_names(node, title, found, QUOTAS)
        return found
    if name == "state" and node.value not in STATES:
        raise DocumentError(node.place, f"the state of {title} is one of {', '.join(STATES)}")
    return node.plain


def check_names(node: Node, title: str, given: Iterable[str], allowed: tuple[str, ...]) -> None:
    for name in given:
        if name not in allowed:
            raise unknown(node.places[name], title, name, allowed)


def mapping(node: Node, what: str) -> dict[str, Any]:
    return {name: inner.plain for name, inner, _ in node.members(what)}


def texts(node: Node, what: str) -> list[str]:
    value = node.plain
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DocumentError(node.place, f"{what} must be a list of texts")
    return sorted(set(value))


def unknown(place: Place, title: str, name: str, allowed: Iterable[str]) -> DocumentError:
    names = sorted(allowed)
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
    return DocumentError(place, f"{title} has no member {name!r}: {hint}")
