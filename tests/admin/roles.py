"""
Who calls, in the authorisation matrix and before Schemathesis: each shipped role, and the two who hold everything.

The roles' sets of permissions come from one table, so that the product's own take its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from qvd.model.acls import operative
from qvd.model.roles import effective
from qvd.model.shipped_roles import ALL, GRAPH

ROLES: Mapping[str, frozenset[str]] = {
    role.name: operative(effective(GRAPH, [role.role_id]), False) for role in ALL
} | {"no role": frozenset()}
"""What each shipped role gives an administrator of a tenant."""


@frozen
class Caller:
    """@ivar acls: L{None}: all there are.
    @ivar superadmin: over all tenants.
    @ivar expired: their session is over.
    """

    name: str
    acls: frozenset[str] | None = None
    superadmin: bool = False
    anonymous: bool = False
    expired: bool = False


def callers() -> list[Caller]:
    """All columns of the matrix. A role is tried with an administrator of a tenant: who is over all tenants is one more
    thing than a role."""
    return [
        Caller("anonymous", anonymous=True),
        Caller("expired", expired=True),
        *(Caller(name, acls) for name, acls in sorted(ROLES.items())),
        Caller("tenant administrator"),
        Caller("supertenant administrator", superadmin=True),
    ]
