# -*- test-case-name: tests.admin.test_users -*-
"""Whose an object is, which of its members a caller may set, and what it may refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qvd.admin.call import Call
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import ITransaction
from qvd.model.declared import COMMON, Field, Principal, Resource, Scope, Values

if TYPE_CHECKING:
    from qvd.admin.collections import Collection


class Membership:
    """What is checked before an object of a resource is made or changed.

    @ivar peers: all collections by name, for references from one to another.
    """

    resource: Resource
    peers: Mapping[str, Collection]

    def may_change(self, principal: Principal, field: Field) -> bool:
        """Whether the caller may change the field at all."""
        return bool(field.update_acl) and principal.holds(field.update_acl)

    def check_members(self, principal: Principal, values: Values, creating: bool) -> None:
        """@raise Problem: the caller may not set one of them."""
        for field in self.resource.fields:
            if field.name not in values:
                continue
            needed = field.create_acl if creating else field.update_acl
            if field.superadmin and not principal.superadmin:
                raise unknown(field.name)
            if needed and not principal.holds(needed):
                fault = Fault(f"/{field.name}", f"needs the permission {needed}", "forbidden-attribute")
                raise Problem("forbidden-attribute", f"You may not set {field.name}", [fault], acl=needed)

    def tenant_of_new(self, call: Call, values: dict[str, Any]) -> int | None:
        """Whose a new object is. Who is over all tenants says so; for others it is theirs."""
        if not self.resource.tenant or not self.resource.tenant_column:
            return None
        if not call.principal.superadmin:
            return call.principal.tenant_id
        tenant_id = values.pop("tenant_id", None)
        if tenant_id is None:
            fault = Fault("/tenant_id", "is needed from an administrator over all tenants", "missing-attribute")
            raise Problem("missing-attribute", "Say whose it is: tenant_id", [fault])
        if tenant_id == COMMON and not self.resource.shared:
            fault = Fault("/tenant_id", "is of what all share, and this is not shared", "reference-not-found")
            raise Problem("reference-not-found", f"A {self.resource.name} belongs to one tenant", [fault])
        return int(tenant_id)

    async def check_references(self, call: Call, tx: ITransaction, values: Values, tenant_id: int | None) -> None:
        """@raise Problem: an object that a field names is not there, or is another tenant's."""
        for field in self.resource.fields:
            if not field.refers or values.get(field.name) is None:
                continue
            peer = self.peers[field.refers]
            scope = Scope(tenant_id) if tenant_id is not None else call.scope
            found = await call.services.records.find(peer.resource, (), scope, values[field.name], tx)
            if found is None:
                fault = Fault(f"/{field.name}", f"there is no such {peer.resource.name}", "reference-not-found")
                raise Problem("reference-not-found", f"There is no {peer.resource.name} {values[field.name]}", [fault])

    def check_owner(self, principal: Principal, current: Values) -> None:
        """@raise Problem: the caller sees it, and may not change it."""
        if self.resource.shared and current.get("tenant_id") == COMMON and not principal.superadmin:
            raise Problem("forbidden", "It belongs to all tenants, and is none of yours to change")


def unknown(name: str) -> Problem:
    """As if there were no such attribute."""
    return Problem(
        "unknown-attribute",
        f"Object contains unknown field `{name}`",
        [Fault(f"/{name}", f"Object contains unknown field `{name}`", "unknown-attribute")],
    )
