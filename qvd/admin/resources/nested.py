# -*- test-case-name: tests.admin.test_properties -*-
"""Objects as the owners of something else, and pages of what has no fields to sort by."""

from __future__ import annotations

from attrs import frozen

from qvd.admin.call import Call
from qvd.admin.problems import Problem, not_found
from qvd.admin.queries import whole
from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.model.declared import COMMON, Principal

INSTALLATION = "administrator of the installation"
"""What a tenant's administrators read instead of the name of somebody over all tenants."""
MOST, DEFAULT = 500, 50


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


async def find_owner(
    reads: ITransaction | IDatabase, owner: Owner, principal: Principal, object_id: int, change: bool = False
) -> Row:
    """Id, name and tenant of an object in the caller's scope.

    @param change: it is to be changed: it is locked, and must be the caller's.
    @raise Problem: there is none, or it belongs to all tenants.
    """
    row = await reads.fetch_one(
        f"SELECT id, {owner.name} AS name, {owner.tenant_sql} AS tenant_id FROM {owner.table} WHERE id = %s"
        + (" FOR NO KEY UPDATE" if change else ""),
        (object_id,),
    )
    scope = principal.scope
    shared = row is not None and owner.tenant and row["tenant_id"] == COMMON
    if row is None or (owner.tenant and not shared and not scope.includes(row["tenant_id"])):
        raise not_found(owner.kind)
    if change and shared and not principal.superadmin:
        raise Problem("forbidden", "It belongs to all tenants, and is none of yours to change")
    return row


def paged(call: Call) -> tuple[int, int]:
    """How many, and after which number.

    @raise Problem: not so many, or no number.
    """
    limit, cursor = whole(call, "limit") or DEFAULT, call.one("cursor")
    if limit > MOST:
        raise Problem("malformed-request", f"limit is a number from 1 to {MOST}")
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise Problem("malformed-request", "The cursor is not one of this list: begin again without it")
    return limit, int(cursor or 0)
