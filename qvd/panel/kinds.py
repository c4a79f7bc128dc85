# -*- test-case-name: tests.panel.test_lists -*-
"""Kinds of objects, as the API's operations declare them: what can be listed, made, changed, and done with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args, get_origin

import msgspec
from attrs import evolve, field, frozen

from qvd.admin.endpoint import Endpoint
from qvd.admin.queries import sees
from qvd.model.declared import Field, Kind, Principal, Resource

NESTED = re.compile(r"/([a-z]+)/\{id\}/([a-z-]+)")
LINKS = {
    "administrator": "administrators",
    "di": "images",
    "host": "hosts",
    "job": "jobs",
    "osf": "osfs",
    "property": "properties",
    "role": "roles",
    "tenant": "tenants",
    "user": "users",
    "vm": "vms",
}
"""Collections, by the words that fields and kinds name their objects with."""


@frozen(kw_only=True)
class ObjectKind:
    """One kind.

    @ivar listing: the operation that lists them; the others likewise, L{None} where there is none.
    @ivar bulk_names: what can be done with many.
    @ivar actions: operations on one object, by name: C{start}.
    @ivar related: lists of objects that belong to one of these, by the collection that they are of.
    """

    resource: Resource
    listing: Endpoint
    creation: Endpoint | None = None
    change: Endpoint | None = None
    deletion: Endpoint | None = None
    bulk: Endpoint | None = None
    bulk_names: Sequence[str] = ()
    actions: Mapping[str, Endpoint] = field(factory=dict)
    related: Mapping[str, Endpoint] = field(factory=dict)

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def collection(self) -> str:
        return self.resource.collection

    @property
    def path(self) -> str:
        """Of the page that lists them."""
        return f"/panel/{self.collection}"

    @property
    def known_by(self) -> str:
        """The field that people know one by."""
        names = (self.resource.known_by, "version", "kind")
        return next((each for each in names if self.resource.get(each) is not None), "id")

    def visible(self, principal: Principal) -> list[Field]:
        """Fields that somebody may see."""
        return [each for each in self.resource.fields if sees(principal, each)]

    def columns(self, principal: Principal) -> list[Field]:
        """Those of them that a list may have. What names an object stands for its number."""
        seen = self.visible(principal)
        names = {each.name for each in seen}
        return [each for each in seen if each.kind is not Kind.OBJECT and name_of(each.name) not in names]


def name_of(number: str) -> str:
    """The field that names what a field has the number of."""
    return f"{number.removesuffix('_id')}_name" if number.endswith("_id") else ""


def number_of(name: str) -> str:
    """The field with the number of what a field names."""
    return f"{name.removesuffix('_name')}_id" if name.endswith("_name") else ""


def kinds_of(endpoints: Sequence[Endpoint]) -> Mapping[str, ObjectKind]:
    """All of them, by collection."""
    by_route = {each.route: each for each in endpoints}
    found = {}
    for each in endpoints:
        resource = each.filtered
        if resource is None or each.route != f"GET /{resource.collection}":
            continue
        path = f"/{resource.collection}"
        bulk = by_route.get(f"POST {path}/bulk")
        found[resource.collection] = ObjectKind(
            resource=resource,
            listing=each,
            creation=by_route.get(f"POST {path}"),
            change=by_route.get(f"PATCH {path}/{{id}}"),
            deletion=by_route.get(f"DELETE {path}/{{id}}") if resource.delete_acl else None,
            bulk=bulk,
            bulk_names=names_in(bulk),
            actions=actions_of(resource, endpoints),
        )
    return {name: with_related(kind, found, endpoints) for name, kind in found.items()}


def with_related(kind: ObjectKind, kinds: Mapping[str, ObjectKind], endpoints: Sequence[Endpoint]) -> ObjectKind:
    """With the lists of objects that belong to one of the kind."""
    related = {}
    for each in endpoints:
        parts = NESTED.fullmatch(each.path)
        if each.method == "GET" and parts and parts[1] == kind.collection and parts[2] in kinds:
            related[parts[2]] = each
    # What is at that path are values, no objects.
    related.pop("properties", None)
    return evolve(kind, related=related)


def names_in(bulk: Endpoint | None) -> Sequence[str]:
    """What an operation over many says that it can do."""
    if bulk is None:
        return ()
    for each in msgspec.structs.fields(bulk.body):
        if each.name == "op" and get_origin(each.type) is Literal:
            return [str(name) for name in get_args(each.type)]
    return ()


def actions_of(resource: Resource, endpoints: Sequence[Endpoint]) -> Mapping[str, Endpoint]:
    """Operations that change one object, and need to know nothing but which, besides their bodies."""
    path = f"/{resource.collection}/{{id}}"
    return {
        each.action.partition(".")[2]: each
        for each in endpoints
        if each.audited
        and each.action.startswith(f"{resource.name}.")
        and (each.path == path or each.path.startswith(f"{path}/"))
        and each.path.count("{") == 1
    }
