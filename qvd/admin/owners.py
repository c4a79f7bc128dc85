# -*- test-case-name: tests.admin.test_properties -*-
"""Kinds of objects that have custom properties, and those properties as conditions of lists."""

from __future__ import annotations

from attrs import frozen

from qvd.admin.problems import Problem
from qvd.model.declared import Field, Kind, Principal, Resource
from qvd.model.properties import LONGEST_KEY

PREFIX = "property."
"""Of a filter that is about a property."""


@frozen
class Owner:
    """A kind of objects that have properties.

    @ivar kind: as in ACLs; C{collection} as in paths.
    @ivar column: of C{values}, with the object's id.
    @ivar name: expression of what people call it.
    @ivar tenant: whether it belongs to one.
    """

    kind: str
    collection: str
    table: str
    values: str
    column: str
    name: str = "name"
    tenant: bool = True

    @property
    def tenant_sql(self) -> str:
        return "tenant_id" if self.tenant else "NULL::integer"


OWNERS = (
    Owner("user", "users", "users", "user_properties", "user_id", "login"),
    Owner("vm", "vms", "vms", "vm_properties", "vm_id"),
    Owner("host", "hosts", "hosts", "host_properties", "host_id", tenant=False),
    Owner("osf", "osfs", "osfs", "osf_properties", "osf_id"),
    Owner("di", "images", "dis", "di_properties", "di_id", "version"),
)
KINDS = {owner.kind: owner for owner in OWNERS}


def property_field(resource: Resource, principal: Principal, name: str) -> Field | None:
    """What C{property.KEY} is in a filter; L{None}: the name is none of a property.

    Secrets, and what is no business of the caller, are as if no object had a value: whoever could compare with them
    would find them out.

    @raise Problem: the caller may not see properties of such objects.
    """
    owner, key = KINDS.get(resource.name), name.removeprefix(PREFIX)
    if owner is None or not name.startswith(PREFIX):
        return None
    if not key or len(key) > LONGEST_KEY or "\0" in key:
        raise Problem("unknown-filter", f"There is no filter {name!r}")
    needed, over_all = f"{owner.kind}.see.properties", principal.superadmin or not principal.multitenant
    if not principal.holds(needed) or not (owner.tenant or over_all):
        raise Problem("forbidden-filter", f"You may not use {name} as a filter", acl=needed)
    hidden = "d.type = 'secret'" + ("" if over_all else " OR d.tenant_id = 0")
    # Not correlated, so that it is found out once for a statement and not for each of its objects.
    if owner.tenant:
        barred = f"ARRAY(SELECT d.tenant_id FROM properties d WHERE d.key = %s AND ({hidden})) && ARRAY[0, x.tenant_id]"
    else:
        barred = f"EXISTS (SELECT FROM properties d WHERE d.key = %s AND 'host' = ANY (d.kinds) AND ({hidden}))"
    return Field(
        name=name,
        kind=Kind.TEXT,
        text="Value of a property",
        sql=f"(SELECT x.value FROM {owner.values} x"
        f" WHERE x.{owner.column} = {resource.key} AND x.key = %s AND NOT {barred})",
        parameters=(key, key),
        nullable=True,
        sorts=False,
    )
