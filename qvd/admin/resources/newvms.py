# -*- test-case-name: tests.admin.test_new_vms -*-
"""A VM for a user, named by a pattern; with C{/users/bulk}, one for each of many."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from qvd.admin import schema
from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Fault, Problem
from qvd.admin.resources.vms import creation_type, field_of, members

USER, NUMBER = "{user}", "{n}"
MOST_TRIED = 1000


def new_vm_of(users: Collection) -> Endpoint:
    """The operation that makes a VM of a user."""
    vms, own = users.peers["vms"], field_of("name")
    longest = int(own.most or 0)
    pattern = Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=longest,
            pattern=own.pattern,
            description="Its name; {user} is the user's, {n} the first number that makes a name they do not have yet",
        ),
    ]
    fields = members(creation_type(), ("name", "user_id", "user_name", "tenant_id"))
    body = schema.struct("NewVmOfUser", [*fields, ("name_pattern", pattern, f"{USER}-{NUMBER}")])

    async def handle(call: Call) -> Answer:
        user = await users.find(call, call.number(), [name_of(users)])
        values: dict[str, Any] = schema.given(call.body)
        base = values.pop("name_pattern").replace(USER, user["name"])
        values |= {"user_id": user["id"], "name": await free_name(call, user["id"], base, longest)}
        return await vms.create_of(call, values)

    return Endpoint(
        method="POST",
        path="/users/{id}/vms",
        action="user.create-vm",
        need=acl("vm.create."),
        handler=handle,
        summary="Users: make a VM of one",
        body=body,
        answers={201: vms.item},
        tag="users",
    )


def name_of(users: Collection) -> Any:
    field = users.resource.get("name")
    assert field is not None
    return field


async def free_name(call: Call, user_id: int, base: str, longest: int) -> str:
    """A name that the user's VMs do not have, where the pattern has a number; else the one that it says.

    @raise Problem: there is none, or it is too long.
    """
    rows = await call.services.database.fetch("SELECT name FROM vms WHERE user_id = %s", (user_id,))
    taken = {row["name"] for row in rows}
    for number in range(1, MOST_TRIED):
        name = base.replace(NUMBER, str(number))
        if len(name) > longest:
            said = f"The name would have more than {longest} characters"
            raise Problem("invalid-value", said, [Fault("/name_pattern", said)])
        if name not in taken or NUMBER not in base:
            return name
    raise Problem("already-exists", f"The user has {MOST_TRIED - 1} VMs of such names")
