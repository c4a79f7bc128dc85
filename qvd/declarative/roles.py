# -*- test-case-name: tests.unit.test_declarative_plan -*-
"""
Roles as the API keeps them: without permissions of their own that they inherit anyway, and without exclusions of what
they do not inherit. A document may say these, and they are no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from qvd.declarative.kinds import BY_NAME, COMMON, Item, Key, spelt
from qvd.declarative.reading import Farm
from qvd.declarative.wanted import Wanted

ROLE = "role"


def there(kind: str, key: Key, wanted: Wanted, farm: Farm) -> bool:
    return (kind, key) in wanted.items or (kind, key) in farm.items


def role_key(tenant: str, name: str, wanted: Wanted, farm: Farm) -> Key | None:
    """The role of that name that an object of a tenant may have: the tenant's own, or one of all."""
    for owner in (tenant, COMMON):
        key = (owner, spelt(BY_NAME[ROLE], name))
        if there(ROLE, key, wanted, farm):
            return key
    return None


def normal(item: Item, wanted: Wanted, farm: Farm) -> Item:
    """The role with permissions as the API will tell them."""
    if "acls" not in item.values:
        return item
    acls = item.values["acls"]
    provided = inherited(item.key, wanted, farm, ())
    shown = {
        "positive": [name for name in acls["positive"] if name not in provided],
        "negative": [name for name in acls["negative"] if name in provided],
    }
    return evolve(item, values={**item.values, "acls": shown})


def inherited(key: Key, wanted: Wanted, farm: Farm, path: Sequence[Key]) -> frozenset[str]:
    """What a role has of those that it inherits. A circle is cut: the API says what is wrong with it."""
    found: frozenset[str] = frozenset()
    for name in values_of(key, wanted, farm).get("roles", ()):
        parent = role_key(key[0], name, wanted, farm)
        if parent is not None and parent not in path:
            found |= effective(parent, wanted, farm, (*path, key))
    return found


def effective(key: Key, wanted: Wanted, farm: Farm, path: Sequence[Key]) -> frozenset[str]:
    acls = values_of(key, wanted, farm).get("acls", {})
    whole = inherited(key, wanted, farm, path) | {*acls.get("positive", ())}
    return frozenset(whole - {*acls.get("negative", ())})


def values_of(key: Key, wanted: Wanted, farm: Farm) -> Mapping[str, Any]:
    """As it is to be: what the document says, over what there is."""
    there, said = farm.find(ROLE, key), wanted.items.get((ROLE, key))
    return {**(there.values if there else {}), **(said.values if said else {})}


def ordered(roles: Sequence[Item]) -> Sequence[Item]:
    """Each after those that it inherits."""
    by_key = {item.key: item for item in roles}
    found: dict[Key, Item] = {}

    def visit(item: Item, path: tuple[Key, ...]) -> None:
        if item.key in found or item.key in path:
            return
        for name in item.values.get("roles", ()):
            for tenant in (item.key[0], COMMON):
                parent = by_key.get((tenant, spelt(BY_NAME[ROLE], name)))
                if parent is not None:
                    visit(parent, (*path, item.key))
        found[item.key] = item

    for item in roles:
        visit(item, ())
    return list(found.values())
