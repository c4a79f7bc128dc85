# -*- test-case-name: tests.cli.test_apply -*-
"""The farm as it is, in the terms of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from attrs import evolve, frozen

from qvd.declarative.kinds import (
    ADMINISTRATOR,
    BY_NAME,
    COMMON,
    HOST,
    IMAGE,
    KINDS,
    OSF,
    OVER_ALL,
    PROPERTY,
    ROLE,
    TENANT,
    USER,
    VM,
    Fields,
    Item,
    Key,
    Kind,
    spelt,
)

PAGE = 500
OVER_ALL_ID, COMMON_ID = 0, -1
OWNERS = {"host": HOST, "user": USER, "vm": VM, "osf": OSF, "di": IMAGE}
"""Kinds of objects that have properties."""
AUTOMATIC = "head"
Row = Mapping[str, Any]


class Withheld(Exception):
    """The caller may not read that."""


class Reads(Protocol):
    """The API, for who reads. Both raise L{Withheld}."""

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The body of an answer."""

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """All objects of a list."""


@frozen
class Farm:
    """All that is there and that the caller may see.

    @ivar over_all: the caller administers all tenants, and says whose a new object is.
    @ivar configuration: of the installation.
    @ivar own: key of the account that the caller uses.
    @ivar withheld: kinds that the caller may not read.
    @ivar secrets: keys of the configuration whose values nobody is told.
    """

    items: Mapping[tuple[str, Key], Item]
    configuration: Item
    over_all: bool
    own: Key = ()
    withheld: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()

    def find(self, kind: str, key: Key) -> Item | None:
        return self.items.get((kind, key))


def read(api: Reads, fields: Mapping[str, Fields], whole: bool = False) -> Farm:
    """All of it.

    @param whole: with those properties, too, that have no definition: they are read object by object.
    """
    return Reader(api, fields, whole).read()


def complete(api: Reads, farm: Farm, wanted: Iterable[Item]) -> Farm:
    """The farm with those properties of wanted objects, too, that have no definition, as the product's own have none:
    they are read object by object."""
    items = dict(farm.items)
    defined = {item.name for item in items.values() if item.kind == PROPERTY.name}
    for item in wanted:
        there = items.get((item.kind, item.key))
        keys = item.values.get("properties", {}).keys() - defined
        if there is None or not keys:
            continue
        found = api.get(f"/{BY_NAME[item.kind].collection}/{there.number}/properties")["items"]
        values = {each["key"]: each["value"] for each in found if each["key"] in keys}
        whole = {**there.values, "properties": {**there.values.get("properties", {}), **values}}
        items[item.kind, item.key] = evolve(there, values=whole)
    return evolve(farm, items=items)


class Reader:
    """@ivar keys: of objects by kind and number."""

    def __init__(self, api: Reads, fields: Mapping[str, Fields], whole: bool) -> None:
        self.api = api
        self.whole = whole
        self.fields = fields
        self.items: dict[tuple[str, Key], Item] = {}
        self.keys: dict[tuple[str, int], Key] = {}
        self.over_all = True
        self.own: Key = ()
        self.withheld: set[str] = set()
        self.secrets: set[str] = set()

    def read(self) -> Farm:
        me = self.api.get("/auth/session")
        self.over_all = me["superadmin"]
        self.keys["tenant", COMMON_ID] = (COMMON,)
        if not self.over_all:
            self.own_tenant(me)
        for kind in KINDS:
            if kind in (TENANT, HOST) and not self.over_all and me["multitenant"]:
                self.withheld.add(kind.name)
                continue
            self.attempt(kind.name, partial(self.read_kind, kind))
        if self.whole:
            for name in OWNERS:
                self.attempt(f"properties of {name}", partial(self.properties_of_each, name))
        else:
            self.attempt("property values", self.property_values)
        self.drop_strangers()
        own = self.keys.get((ADMINISTRATOR.name, me["administrator_id"]), ())
        # Who has one tenant of several sets keys for that tenant, without saying so.
        level = "tenant" if me["multitenant"] and not self.over_all else "global"
        whole: dict[str, Any] = {}
        self.attempt("configuration", lambda: whole.update(self.configuration(level, {})))
        configuration = Item("configuration", (), "", whole)
        return Farm(self.items, configuration, self.over_all, own, frozenset(self.withheld), frozenset(self.secrets))

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Withheld:
            self.withheld.add(what)

    def read_kind(self, kind: Kind) -> None:
        for row in self.rows(kind):
            self.add(kind, row)

    def own_tenant(self, me: Row) -> None:
        """Of somebody who has one, and may not see what tenants there are."""
        name = str(me["tenant_name"])
        self.own = self.keys["tenant", me["tenant_id"]] = (name,)
        self.items["tenant", (name,)] = Item("tenant", (name,), name, number=me["tenant_id"], managed=False)

    def rows(self, kind: Kind) -> Iterator[dict[str, Any]]:
        names = {kind.known_by, *self.fields[kind.name].all, *REFERENCES[kind.name]}
        query: dict[str, Any] = {"limit": PAGE, "sort": "id"}
        if kind.parent == "tenant" and self.over_all:
            names.add("tenant_id")
        elif kind is ROLE:
            query["include"] = "actions"
        return self.api.pages(f"/{kind.collection}", {"fields": ",".join(sorted(names)), **query})

    def add(self, kind: Kind, row: Row) -> None:
        parent = self.parent_of(kind, row)
        if parent is None:
            return
        name = OVER_ALL if kind is TENANT and row["id"] == OVER_ALL_ID else str(row[kind.known_by])
        key = (*parent, spelt(kind, name))
        managed = not row.get("fixed", False) and key != (OVER_ALL,) and (self.over_all or key[0] != COMMON)
        values = {field: row[field] for field in self.fields[kind.name].all if field in row}
        self.keys[kind.name, row["id"]] = key
        item = Item(kind.name, key, name, {**values, **self.facets(kind, key, row)}, number=row["id"], managed=managed)
        self.items[kind.name, key] = item

    def parent_of(self, kind: Kind, row: Row) -> Key | None:
        """Key of what it belongs to; L{None}: that is nothing that the caller sees."""
        match kind.parent:
            case "":
                return ()
            case "tenant" if self.over_all:
                return self.keys.get(("tenant", row["tenant_id"]))
            case "tenant":
                # Who has one tenant is not told whose things are; what is nobody's to change there is of all tenants.
                return (COMMON,) if kind is ROLE and not row["_actions"] else self.own
            case parent:
                return self.keys.get((parent, row[f"{parent}_id"]))

    def facets(self, kind: Kind, key: Key, row: Row) -> dict[str, Any]:
        match kind.name:
            case "tenant" if row["id"] > OVER_ALL_ID:
                return self.of_tenant(row["id"])
            case "host":
                found: dict[str, Any] = {}
                place = {"host_id": row["id"]}
                self.attempt("configuration", lambda: found.update(configuration=self.configuration("host", place)))
                return found
            case "property":
                return {"kinds": sorted(row["kinds"])}
            case "role":
                acls = {sign: sorted(row["acls"].get(sign, ())) for sign in ("positive", "negative")}
                return {"acls": acls, "roles": sorted(each["name"] for each in row["roles"])}
            case "administrator":
                return {"roles": sorted(each["name"] for each in row["roles"])}
            case "di":
                held = [each["tag"] for each in row["tags"] if not each["fixed"] and each["tag"] != AUTOMATIC]
                return {"tags": sorted({*held, *row["future_tags"]}), "state": row["state"]}
            case "vm":
                osf = self.keys.get(("osf", row["osf_id"]))
                return {"osf": osf[-1] if osf else ""}
            case _:
                return {}

    def of_tenant(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.attempt("quotas", lambda: found.update(quotas=self.api.get(f"/tenants/{number}/quotas")))
        if self.over_all:
            place = {"tenant_id": number}
            self.attempt("configuration", lambda: found.update(configuration=self.configuration("tenant", place)))
        return found

    def configuration(self, level: str, place: Mapping[str, int]) -> dict[str, Any]:
        """Keys that are set there. Secrets are not told."""
        found = self.api.get("/config", place)["items"]
        self.secrets.update(each["key"] for each in found if each["secret"])
        return {each["key"]: each["value"] for each in found if each["source"] == level and not each["secret"]}

    def properties_of_each(self, kind: str) -> None:
        for item in list(self.items.values()):
            if item.kind == kind:
                found = self.api.get(f"/{OWNERS[item.kind].collection}/{item.number}/properties")["items"]
                values = {each["key"]: each["value"] for each in found if each["type"] != "secret"}
                if values:
                    self.replace(item.kind, item.key, {**item.values, "properties": values})

    def property_values(self) -> None:
        """By their definitions: object by object it would take as many calls as there are objects."""
        definitions = [item for item in self.items.values() if item.kind == PROPERTY.name]
        for definition in definitions:
            if definition.values.get("type") == "secret":
                continue
            for kind in definition.values["kinds"]:
                if kind in OWNERS:
                    self.values_of(definition, kind)

    def values_of(self, definition: Item, kind: str) -> None:
        asked: dict[str, Any] = {"kind": kind, "limit": PAGE}
        while True:
            answer = self.api.get(f"/properties/{definition.number}/values", asked)
            for each in answer["items"]:
                key = self.keys.get((kind, each["id"]))
                if key is not None and each["is_set"]:
                    values = dict(self.items[kind, key].values)
                    values["properties"] = {**values.get("properties", {}), definition.name: each["value"]}
                    self.replace(kind, key, values)
            if answer["next"] is None:
                return
            asked["cursor"] = answer["next"]

    def replace(self, kind: str, key: Key, values: Mapping[str, Any]) -> None:
        self.items[kind, key] = evolve(self.items[kind, key], values=values)

    def drop_strangers(self) -> None:
        """Who is of the common tenant has no section, unless it is a role that somebody made."""
        for at, item in list(self.items.items()):
            if item.key[0] == COMMON and item.kind != ROLE.name:
                del self.items[at]


REFERENCES: Mapping[str, frozenset[str]] = {
    kind.name: frozenset(names)
    for kind, names in (
        (TENANT, ()),
        (PROPERTY, ("kinds",)),
        (HOST, ()),
        (ROLE, ("acls", "roles", "fixed")),
        (ADMINISTRATOR, ("roles",)),
        (OSF, ()),
        (IMAGE, ("osf_id", "tags", "future_tags", "state")),
        (USER, ()),
        (VM, ("user_id", "osf_id")),
    )
}
"""Fields that facets, and where an object belongs, are read from."""
assert REFERENCES.keys() == BY_NAME.keys()
