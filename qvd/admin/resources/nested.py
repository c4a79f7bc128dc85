# -*- test-case-name: tests.admin.test_properties -*-
"""Objects as the owners of something else, and pages of what has no fields to sort by."""

from __future__ import annotations

from qvd.admin.call import Call
from qvd.admin.owners import Owner
from qvd.admin.problems import Problem, not_found
from qvd.admin.queries import whole
from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.model.declared import COMMON, Principal

INSTALLATION = "administrator of the installation"
"""What a tenant's administrators read instead of the name of somebody over all tenants."""
MOST, DEFAULT = 500, 50


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
