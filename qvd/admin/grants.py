# -*- test-case-name: tests.admin.test_escalation -*-
"""
Nobody grants what they do not hold. So nobody gives a role, changes one, or takes over an administrator, where that
gives or has more than they have themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

from qvd.admin.call import Call
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import ITransaction
from qvd.model.acls import ever_operative, exists_for, matching
from qvd.model.declared import Principal
from qvd.model.roles import Graph, effective

TOLD = 10
"""Permissions that a refusal names, at most."""


def check_grant(principal: Principal, names: Iterable[str], tenant_id: int) -> None:
    """@param tenant_id: whose the role or the administrator is that has or gives them.

    @raise Problem: the caller lacks some.
    """
    lacking = sorted(name for name in ever_operative(names, tenant_id) if name not in principal.acls)
    if lacking:
        told = ", ".join(name for name in lacking[:TOLD] if exists_for(name, principal.superadmin))
        raise Problem("grants-more", f"That takes more than you hold: {told}", acl=told)


async def check_roles(call: Call, tx: ITransaction | None, role_ids: Iterable[int], tenant_id: int) -> Graph:
    """Return the roles with what they inherit.

    @raise Problem: they give more than the caller holds.
    """
    wanted = list(role_ids)
    graph: Graph = await call.services.roles.graph(wanted, tx)
    check_grant(call.principal, effective(graph, wanted), tenant_id)
    return graph


async def check_administrator(call: Call, tx: ITransaction | None, administrator_id: int, tenant_id: int) -> None:
    """@raise Problem: the administrator may do more than the caller. So may one's own account, to one's token."""
    await check_roles(call, tx, await call.services.roles.held(administrator_id, tx), tenant_id)


def require(principal: Principal, name: str) -> None:
    """@raise Problem: the caller lacks a permission that an operation needs only now and then."""
    if not principal.holds(name):
        raise Problem("forbidden", f"You need the permission {name}", acl=name)


def expand(principal: Principal, patterns: Iterable[str], pointer: str) -> list[str]:
    """Names of permissions that patterns stand for, as far as they exist for the caller.

    @param pointer: where in the body the patterns are.
    @raise Problem: a pattern stands for nothing.
    """
    found: dict[str, None] = {}
    for index, pattern in enumerate(patterns):
        names = [name for name in sorted(matching(pattern)) if exists_for(name, principal.superadmin)]
        if not names:
            fault = Fault(f"{pointer}/{index}", "no permission is called so")
            raise Problem("invalid-value", f"There is no permission {pattern!r}", [fault])
        found |= dict.fromkeys(names)
    return list(found)
