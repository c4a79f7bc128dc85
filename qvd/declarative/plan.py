# -*- test-case-name: tests.unit.test_declarative_plan -*-
"""What must be done so that the farm is as a document wants it: steps, each after those that it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from qvd.declarative.document import DocumentError, Place
from qvd.declarative.kinds import BY_NAME, COMMON, KINDS, OVER_ALL, Fields, Item, Key
from qvd.declarative.reading import Farm
from qvd.declarative.roles import normal, ordered, role_key, there
from qvd.declarative.wanted import Wanted

MERGED = ("properties", "configuration", "quotas")
"""Facets of which a document may say a part. Only properties are pruned: without a key of the configuration that nobody
thought of, as whether there are several tenants, the installation would be another one."""
MISSING = object()


@frozen
class Step:
    """@ivar verb: C{create}, C{change}, C{delete}; C{missing}: nothing that can be done here.
    @ivar item: as it is wanted; of a deletion, as it is.
    @ivar was: as it is; L{None}: it is not there.
    @ivar changes: what it is from and to, by member.
    """

    verb: str
    item: Item
    was: Item | None = None
    changes: Mapping[str, tuple[Any, Any]] = field(factory=dict)

    @property
    def place(self) -> Place | None:
        found: Place | None = self.item.places.get("")
        return found


def plan(wanted: Wanted, farm: Farm, fields: Mapping[str, Fields], prune: bool = False) -> Sequence[Step]:
    """@param prune: what the document's sections do not have goes.
    @raise DocumentError: the document refers to what neither it nor the farm has, or changes what cannot be changed.
    """
    steps = list(configuration_steps(wanted, farm))
    for kind in KINDS:
        items = [item for item in wanted.items.values() if item.kind == kind.name]
        for item in ordered(items) if kind.name == "role" else items:
            check_readable(item, farm)
            check_secrets(item, wanted, farm)
            check_references(item, wanted, farm)
            item = normal(item, wanted, farm) if kind.name == "role" else item
            steps += step_of(item, farm, fields[kind.name], prune)
    return [*steps, *(deletions(wanted, farm) if prune else ())]


def configuration_steps(wanted: Wanted, farm: Farm) -> Iterator[Step]:
    item = wanted.configuration
    if item is None:
        return
    if "configuration" in farm.withheld:
        raise DocumentError(item.places[""], "the configuration is nothing that you may see")
    for name in item.values:
        if name in farm.secrets:
            raise DocumentError(item.places[name], f"{name} is a secret: qvd config set")
    changes = merged(item.values, farm.configuration.values, False)
    if changes:
        yield Step("change", item, farm.configuration, changes)


def step_of(item: Item, farm: Farm, fields: Fields, prune: bool) -> Iterator[Step]:
    was = farm.find(item.kind, item.key)
    if was is None:
        if item.kind == "di":
            yield Step("missing", item)
            return
        if item.kind == "tenant" and (item.name in (OVER_ALL, COMMON) or not farm.over_all):
            raise DocumentError(item.places[""], f"{item.title} is none that you may make")
        yield Step("create", item, None, {name: (None, value) for name, value in item.values.items()})
        return
    changes = differences(item, was, prune)
    if not changes:
        return
    if not was.managed:
        raise DocumentError(
            item.places[""], f"{item.title} comes with the product, or is not yours, and stays as it is"
        )
    for name in changes:
        if name in fields.created - fields.changed:
            raise DocumentError(item.places[name], f"{name} of {item.title} cannot be changed afterwards")
    yield Step("change", item, was, changes)


def differences(item: Item, was: Item, prune: bool) -> dict[str, tuple[Any, Any]]:
    """What the document has otherwise, by member; of mappings, the members' members."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, value in item.values.items():
        before = was.values.get(name, {} if name in MERGED else None)
        if name in MERGED:
            changes = merged(value, before, prune and name == "properties")
            if changes:
                found[name] = (
                    {key: old for key, (old, _) in changes.items() if old is not MISSING},
                    {key: None if new is MISSING else new for key, (_, new) in changes.items()},
                )
        elif not same(value, before):
            found[name] = (before, value)
    return found


def merged(wanted: Mapping[str, Any], there: Mapping[str, Any], prune: bool) -> dict[str, tuple[Any, Any]]:
    """From and to, by key."""
    found = {
        key: (there.get(key, MISSING), value)
        for key, value in wanted.items()
        if not same(there.get(key), value) and not (value is None and key not in there)
    }
    if prune:
        found |= {key: (value, MISSING) for key, value in there.items() if key not in wanted}
    return found


def same(one: Any, other: Any) -> bool:
    """C{1} and C{1.0} are, C{1} and C{true} are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def check_readable(item: Item, farm: Farm) -> None:
    """@raise DocumentError: whether it must be changed is not the caller's to know. The tenant of somebody who has one
    is known, all the same."""
    if item.kind in farm.withheld and farm.find(item.kind, item.key) is None:
        raise DocumentError(item.places[""], f"{item.title} is none that you may see or make")
    for name, what in (("properties", "property values"), ("configuration", "configuration"), ("quotas", "quotas")):
        if name in item.values and what in farm.withheld:
            raise DocumentError(item.places[name], f"{name} of {item.title} are nothing that you may see")


def check_secrets(item: Item, wanted: Wanted, farm: Farm) -> None:
    """@raise DocumentError: it says a secret, which should not be in a file, and which nobody could compare."""
    for name in item.values.get("configuration", ()):
        if name in farm.secrets:
            raise DocumentError(item.places["configuration"], f"{name} of {item.title} is a secret: qvd config set")
    for name in item.values.get("properties", ()):
        for tenant in (item.key[0], OVER_ALL):
            at = ("property", (tenant, name))
            definition = wanted.items.get(at) or farm.items.get(at)
            if definition is not None and definition.values.get("type") == "secret":
                raise DocumentError(
                    item.places["properties"], f"{name} of {item.title} is a secret: qvd {item.kind} set-property"
                )


def check_references(item: Item, wanted: Wanted, farm: Farm) -> None:
    """@raise DocumentError: something that it names is nowhere."""
    parent = BY_NAME[item.kind].parent
    if parent and not there(parent, item.key[:-1], wanted, farm):
        raise DocumentError(item.places[""], f"{item.title} belongs to a {parent} that is not there")
    if item.kind == "vm" and not there("osf", osf_key(item), wanted, farm):
        raise DocumentError(
            item.places["osf"], f"{item.title} wants the osf {item.values['osf']!r}, which is not there"
        )
    if item.kind in ("role", "administrator"):
        for name in item.values.get("roles", ()):
            if role_key(item.key[0], name, wanted, farm) is None:
                raise DocumentError(item.places["roles"], f"{item.title} wants the role {name!r}, which is not there")


def osf_key(vm: Item) -> Key:
    """OSFs belong to the tenant of the VM's user."""
    return (vm.key[0], str(vm.values["osf"]))


def deletions(wanted: Wanted, farm: Farm) -> Iterator[Step]:
    """What goes: of sections that the document has, what is not in them, with all that belongs to it; not what belongs
    to a tenant, which only says so itself."""
    going: set[tuple[str, Key]] = set()
    for kind in KINDS:
        for item in farm.items.values():
            if item.kind != kind.name or not item.managed or (item.kind, item.key) in wanted.items:
                continue
            if item.kind == "administrator" and item.key == farm.own:
                continue
            above = (kind.parent, item.key[:-1])
            holder = wanted.items.get(above)
            sections = wanted.sections if not kind.parent else holder.sections if holder else frozenset()
            if kind.section in sections or (kind.parent != "tenant" and above in going):
                going.add((item.kind, item.key))
    for kind in reversed(KINDS):
        found = [item for item in farm.items.values() if (item.kind, item.key) in going and item.kind == kind.name]
        for item in reversed(ordered(found)) if kind.name == "role" else found:
            yield Step("delete", item, item)
