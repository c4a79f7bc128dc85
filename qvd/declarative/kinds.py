# -*- test-case-name: tests.unit.test_declarative_plan -*-
"""
The kinds of objects that a document has, and their order by dependence. Which fields they have, the API's description
says; here is only what a document names in its own way: by names, and inside of what an object belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

Key = tuple[str, ...]
NOT_FIELDS = frozenset({"id", "tenant_id", "password", "properties", "source", "default", "auto_publish"})


@frozen(kw_only=True)
class Kind:
    """One kind.

    @ivar section: member of a document, or of the object that it belongs to, with the objects by name.
    @ivar collection: as in paths.
    @ivar parent: kind that it belongs to; empty: none.
    @ivar known_by: field with its name.
    @ivar facets: members of a document that are no fields of the API, or not written as such.
    @ivar left_out: fields that a document does not have: what other members say, and what lasts for one run only.
    @ivar folds: upper and lower case of its names are the same.
    """

    name: str
    section: str
    collection: str
    parent: str = ""
    known_by: str = "name"
    facets: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    folds: bool = False


TENANT = Kind(name="tenant", section="tenants", collection="tenants", facets=("quotas", "configuration"))
PROPERTY = Kind(
    name="property", section="properties", collection="properties", parent="tenant", known_by="key", facets=("kinds",)
)
HOST = Kind(name="host", section="hosts", collection="hosts", facets=("properties", "configuration"))
ROLE = Kind(name="role", section="roles", collection="roles", parent="tenant", facets=("acls", "roles"), folds=True)
ADMINISTRATOR = Kind(
    name="administrator",
    section="administrators",
    collection="administrators",
    parent="tenant",
    facets=("roles",),
    folds=True,
)
OSF = Kind(name="osf", section="osfs", collection="osfs", parent="tenant", facets=("properties",))
IMAGE = Kind(
    name="di",
    section="images",
    collection="images",
    parent="osf",
    known_by="version",
    facets=("properties", "tags", "state"),
    left_out=frozenset({"osf_id", "osf_name"}),
)
USER = Kind(name="user", section="users", collection="users", parent="tenant", facets=("properties",), folds=True)
VM = Kind(
    name="vm",
    section="vms",
    collection="vms",
    parent="user",
    facets=("properties", "osf"),
    left_out=frozenset({"osf_id", "osf_name", "user_id", "user_name", "expiration_soft", "expiration_hard"}),
)
KINDS = (TENANT, PROPERTY, HOST, ROLE, ADMINISTRATOR, OSF, IMAGE, USER, VM)
"""Each after those that it depends on."""
BY_NAME = {kind.name: kind for kind in KINDS}
OVER_ALL, COMMON = "*", "common"
"""Tenants that are no organisations: of the administrators over all tenants, and of what all share."""


def children(parent: str) -> Mapping[str, Kind]:
    """Kinds that stand inside of another, by section."""
    return {kind.section: kind for kind in KINDS if kind.parent == parent}


def spelt(kind: Kind, name: str) -> str:
    """A name as a part of a key."""
    return name.casefold() if kind.folds else name


@frozen
class Fields:
    """Fields of one kind that a document may have.

    @ivar changed: those that can be changed; C{created}: that can be given when an object is made.
    @ivar shown: those that can be read.
    """

    created: frozenset[str]
    changed: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.created | self.changed


def fields_of(openapi: Mapping[str, Any], kind: Kind) -> Fields:
    """What the API's description says."""

    def names(schema: Any) -> frozenset[str]:
        found = resolved(openapi, schema)
        return frozenset(found.get("properties", {}))

    paths = openapi["paths"]
    path = f"/api/v1/{kind.collection}"
    one = paths[f"{path}/{{id}}"]
    shown = names(one["get"]["responses"]["200"]["content"]["application/json"]["schema"])
    created = names(body_of(paths[path]["post"]))
    changed = names(body_of(one["patch"]))
    mine = shown - NOT_FIELDS - kind.left_out - set(kind.facets) - {kind.known_by}
    return Fields(created & mine, changed & mine)


def body_of(operation: Mapping[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("schema", {})


def resolved(openapi: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    found: Any = openapi if reference else schema
    for part in reference.removeprefix("#/").split("/") if reference else ():
        found = found[part]
    assert isinstance(found, Mapping)
    return found


@frozen
class Item:
    """An object, as it is wanted or as it is.

    @ivar key: names from the outermost object on.
    @ivar values: fields and facets that are said of it.
    @ivar places: where these stand in the document; C{""}: the object itself.
    @ivar number: its id; L{None}: it is not there, or needs none.
    @ivar sections: of objects inside of it that the document has.
    @ivar managed: False: it can be referred to, and stays as it is.
    """

    kind: str
    key: Key
    name: str
    values: Mapping[str, Any] = field(factory=dict)
    places: Mapping[str, Any] = field(factory=dict)
    number: int | None = None
    sections: frozenset[str] = frozenset()
    managed: bool = True

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.kind} {'/'.join((*self.key[:-1], self.name))}".rstrip()
