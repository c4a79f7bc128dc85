"""Port of the roles: what is stored of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zope.interface import Interface

from qvd.interfaces.database import ITransaction
from qvd.model.roles import Graph, Role


class IRoles(Interface):
    """Roles, what they inherit, and who holds them.

    Where a transaction is a parameter, L{None} means one of its own.
    """

    async def lock(tx: ITransaction) -> None:
        """Keep others from changing roles and assignments until the end of the transaction."""

    async def graph(role_ids: Iterable[int], tx: ITransaction | None = None) -> Graph:
        """These roles and all that they inherit."""

    async def names(role_ids: Iterable[int]) -> Mapping[int, str]:
        """What roles are called."""

    async def held(administrator_id: int, tx: ITransaction | None = None) -> Sequence[int]:
        """The roles that an administrator holds now."""

    async def write(before: Role, after: Role, tenant_id: int, tx: ITransaction) -> None:
        """Store what has changed of a role.

        @param tenant_id: whose the role is.
        @raise psycopg2.Error: a parent is another tenant's, or the role would inherit itself.
        """

    async def assign(administrator_id: int, role_id: int, tx: ITransaction) -> None:
        """Give an administrator a role, for good.

        @raise psycopg2.Error: the role is another tenant's.
        """

    async def withdraw(administrator_id: int, role_id: int, tx: ITransaction) -> None:
        """Take a role from an administrator."""
