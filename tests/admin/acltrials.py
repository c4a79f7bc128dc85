"""Calls that are made with one permission, and with all others but that one. Nothing that they change stays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from attrs import define, evolve, field

from qvd.admin.bulk import Rehearsal, operations
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint
from qvd.admin.resources.views import UPDATE
from qvd.model.acls import CATALOGUE
from qvd.model.configuration import EXPIRING_DAYS
from qvd.model.declared import Creates, Field, Kind, Principal, Resource
from tests.admin.desks import Desks
from tests.admin.isolation import sample_body
from tests.admin.world import ApiWorld, Reply

FILE = "there.qcow2"
VIEW_PARTS = {acl: part for part, acl in UPDATE.items()}
ANY = {"If-Match": "*"}
SOON = "2099-01-01T00:00:00Z"
SOURCE = {"type": "staging", "file": FILE}


@define
class Trials:
    """One object of each kind, which all belong to acme.

    @ivar ids: by collection.
    """

    api: ApiWorld
    desks: Desks
    ids: dict[str, int] = field(factory=dict)

    async def prepare(self) -> None:
        """Make them; from then on nothing is kept."""
        api, desks = self.api, self.desks
        api.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/24', '10.3.0.10')")
        ada = await api.call(api.anna, "POST", "/administrators", {"name": "ada", "password": "long enough"})
        role = await api.call(api.anna, "POST", "/roles", {"name": "empty"})
        kinds = ["user", "vm", "osf", "di"]
        key = await api.call(api.boss, "POST", "/properties", {"key": "key", "kinds": kinds, "tenant_id": api.acme})
        rack = {"key": "rack", "kinds": ["host"], "tenant_id": 0}
        assert (await api.call(api.boss, "POST", "/properties", rack)).status == 201
        other = await api.call(api.anna, "POST", "/roles", {"name": "other"})
        for name, number in (("users", desks.user), ("vms", desks.vm), ("osfs", desks.osf), ("images", desks.di)):
            assert (await api.call(api.anna, "PUT", f"/{name}/{number}/properties/key", {"value": "x"})).status == 200
        path = f"/hosts/{desks.host}/properties/rack"
        assert (await api.call(api.boss, "PUT", path, {"value": "x"})).status == 200
        places: Any = api.services.places
        staging = places.staging / f"tenant-{api.acme}"
        staging.mkdir()
        (staging / FILE).write_bytes(b"QFI")
        row = (await api.call(api.anna, "GET", "/log")).body["items"][0]
        job = api.insert(
            "jobs (kind, tenant_id, administrator_id, administrator_name, acls, request_id, client_address, arguments)"
            " VALUES ('bulk', %s, %s, 'ada', '{}', '', '', '{}')",
            api.acme,
            ada.body["id"],
        )
        self.ids = {
            "users": desks.user,
            "vms": desks.vm,
            "hosts": desks.host,
            "osfs": desks.osf,
            "images": desks.di,
            "tenants": api.acme,
            "administrators": ada.body["id"],
            "roles": role.body["id"],
            "other roles": other.body["id"],
            "properties": key.body["id"],
            "log": row["id"],
            "jobs": job,
        }
        api.services.changes = Rehearsal(api.services.changes)  # type: ignore[assignment]

    def holding(self, over_all: bool, acls: Iterable[str]) -> Principal:
        """@param over_all: over all tenants, where nobody else may."""
        return evolve(self.api.boss if over_all else self.api.anna, acls=frozenset(acls))

    def but(self, over_all: bool, acls: Iterable[str]) -> Principal:
        """Who holds all others."""
        return self.holding(over_all, CATALOGUE.keys() - frozenset(acls))

    def path(self, endpoint: Endpoint, acl: str) -> str:
        """Of an operation on what there is, as that permission is for."""
        collection = endpoint.path.split("/")[1]
        values = {
            "id": self.ids.get(collection, 1),
            "role_id": self.ids["other roles"],
            "kind": "vm",
            "key": {"hosts": "rack", "config": EXPIRING_DAYS}.get(collection, "key"),
            "tag": "pilot" if acl == "di.update.tags" else "default",
            "section": "vm",
            "name": "vm.spy.",
            "file": FILE,
            "hash": "0" * 64,
        }
        path = re.sub(r"\{([a-z_]+)\}", lambda found: str(values.get(found[1], "1")), endpoint.path)
        kind = acl.split(".")[0]
        asks = endpoint.action == "property.values" or (
            endpoint.action == "property.list" and acl.endswith(".see.properties")
        )
        return f"{path}?kind={kind}" if asks else path

    async def run(self, who: Principal, endpoint: Endpoint, acl: str) -> Reply:
        """Call an operation with a body for what that permission is about."""
        body = None if endpoint.body is None else self.body(endpoint, acl)
        return await self.api.call(who, endpoint.method, self.path(endpoint, acl), body, ANY)

    def body(self, endpoint: Endpoint, acl: str) -> Any:
        owner = getattr(endpoint.handler, "__self__", None)
        kind, _, verb = endpoint.action.partition(".")
        if verb == "bulk":
            return self.bulk(kind, acl)
        if isinstance(owner, Collection):
            if verb == "create":
                return self.least(owner.resource)
            if verb == "update":
                return self.change(owner.resource, acl)
        special: Mapping[str, Any] = {
            "config.update": {"set": {EXPIRING_DAYS: 7}},
            "config.set": {"value": 7},
            "di.expire_vms": {"all": True, "soft": SOON},
            "host.declare-dead": {"confirm": "node1"},
            "host.decommission": {"confirm": "node1"},
            "host.set-property": {"value": "x"},
            "log.set-retention": {"days": 90},
            "osf.set_tag": {"image_id": self.ids["images"]},
            "role.clone": {"name": "clone"},
            "tenant.purge": {"confirm": "acme"},
            "user.create-vm": {"osf_id": self.ids["osfs"]},
            "view.set": {VIEW_PARTS.get(acl, "columns"): []},
        }
        return special.get(endpoint.action, sample_body(endpoint.body))

    def bulk(self, kind: str, acl: str) -> Any:
        """Of the operation that the permission is for."""
        [owner] = [each for each in self.collections() if each.resource.name == kind]
        singles = operations(owner, [*owner.endpoints()])
        name = next(name for name, single in singles.items() if acl in single.need.any_of)
        single = singles[name]
        changes = self.change(owner.resource, acl) if name == "update" else {}
        arguments = changes or (self.body(single, acl) if single.body else {})
        return {"op": name, "ids": [self.ids[owner.resource.collection]], "arguments": arguments}

    def collections(self) -> list[Collection]:
        owners = (getattr(each.handler, "__self__", None) for each in self.api.endpoints)
        return list({id(each): each for each in owners if isinstance(each, Collection)}.values())

    def change(self, resource: Resource, acl: str) -> dict[str, Any]:
        """Of the first field that is changed with the permission."""
        found = next((each for each in resource.fields if each.update_acl == acl), None)
        return {} if found is None else {found.name: self.value(resource, found)}

    def least(self, resource: Resource) -> dict[str, Any]:
        """Of a new object."""
        made = {each.name: self.value(resource, each) for each in resource.fields if each.creates is Creates.MUST}
        if resource.name == "di":
            made["source"] = SOURCE
        return made

    def value(self, resource: Resource, wanted: Field) -> Any:
        """That may be given to a field."""
        if wanted.refers:
            return self.ids[wanted.refers]
        if wanted.choices:
            return wanted.choices[-1]
        known: dict[str, Any] = {
            "address": "10.3.0.99" if resource.name == "host" else "x",
            "di_tag": "default",
            "acls": {},
        }
        if wanted.name in known:
            return known[wanted.name]
        match wanted.kind:
            case Kind.BOOLEAN:
                return True
            case Kind.INTEGER | Kind.NUMBER:
                return ceil(wanted.least or 1)
            case Kind.TIME:
                return SOON
            case Kind.ADDRESS:
                return "10.3.0.77"
            case Kind.LIST:
                return []
            case Kind.OBJECT:
                return {}
            case _:
                return "long-enough"
