"""Ports of the administration: objects, the audit trail, answers that are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from attrs import frozen
from zope.interface import Interface

from qvd.interfaces.database import ITransaction, Row
from qvd.model.declared import Field, Resource, Scope, Values
from qvd.model.filters import Filter

T = TypeVar("T")


@frozen(kw_only=True)
class Query:
    """Which objects of a collection, in which order.

    @ivar order: fields and whether each is downwards. The id is always the last, so that the order is total.
    @ivar after: values of C{order}'s fields and the id of the object that comes just before the page.
    @ivar before: the same of the one just after it: the page before that.
    @ivar offset: objects to pass over, instead of the two.
    """

    where: Filter | None = None
    order: tuple[tuple[Field, bool], ...] = ()
    limit: int = 50
    after: tuple[Any, ...] | None = None
    before: tuple[Any, ...] | None = None
    offset: int = 0


@frozen
class Rows:
    """A page.

    @ivar has_more: objects come after it (or, with C{before}, before it).
    """

    items: Sequence[Values]
    has_more: bool


@frozen(kw_only=True)
class AuditEntry:
    """One row of the audit trail.

    @ivar outcome: C{done}, C{denied} or C{failed}.
    @ivar problem: kind of the problem, when it was not done.
    @ivar arguments: what was sent, without secrets.
    """

    action: str
    outcome: str
    request_id: str
    client_address: str
    administrator_id: int | None = None
    administrator_name: str = ""
    administrator_tenant_id: int | None = None
    kind: str = ""
    object_id: int | None = None
    object_name: str = ""
    object_tenant_id: int | None = None
    arguments: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    problem: str = ""
    status: int = 200


class IRecords(Interface):
    """Objects of declared resources. Whatever is out of the scope is as if it were not there.

    Where a transaction is a parameter, L{None} means one of its own.
    """

    async def page(resource: Resource, fields: Sequence[Field], scope: Scope, query: Query) -> Rows:
        """Read a page of a collection: C{fields} and the id of each object."""

    async def count(resource: Resource, scope: Scope, where: Filter | None, tx: ITransaction | None = None) -> int:
        """How many there are."""

    async def ids(resource: Resource, scope: Scope, where: Filter | None, most: int) -> Sequence[int]:
        """The ids of those that a filter is about, in order; C{most} of them."""

    async def tally(
        resource: Resource, field: Field, scope: Scope, where: Filter | None, most: int, latest: bool = False
    ) -> Sequence[tuple[Any, int]]:
        """How many there are of each value of a field: C{most} values, those of which there are most.

        @param latest: instead, the greatest values, downwards.
        """

    async def find(
        resource: Resource,
        fields: Sequence[Field],
        scope: Scope,
        object_id: int,
        tx: ITransaction | None = None,
        lock: bool = False,
    ) -> Values | None:
        """Read one object: C{fields}, C{id} and C{tenant_id}, where it has one.

        @param lock: keep others from changing or deleting it until the end of the transaction.
        """

    async def insert(resource: Resource, tenant_id: int | None, values: Values, tx: ITransaction) -> int:
        """Make an object of the fields that have columns, and return its id.

        @raise psycopg2.Error: a constraint says no.
        """

    async def update(resource: Resource, object_id: int, values: Values, tx: ITransaction) -> None:
        """Write the fields that have columns."""

    async def delete(resource: Resource, object_id: int, tx: ITransaction) -> None:
        """Take an object away."""


class IStatistics(Interface):
    """Numbers of now. Of what is out of the scope nothing is counted."""

    async def counts(scope: Scope, parts: Collection[str], days: int) -> Mapping[str, Mapping[str, Any]]:
        """For each part (C{users}, C{vms}, C{hosts}, C{osfs}, C{images}) how many there are, by state too.

        @param days: VMs whose hard date comes within so many are expiring.
        """

    async def expiring(scope: Scope, days: int, most: int) -> Sequence[Row]:
        """VMs whose soft or hard date comes within so many days, the next ones first."""

    async def top_hosts(scope: Scope, most: int) -> Sequence[Row]:
        """Nodes with the most VMs of the scope."""


class IAudit(Interface):
    """The audit trail: rows that are chained by their hashes."""

    async def append(entry: AuditEntry, tx: ITransaction) -> None:
        """Write a row, in the transaction of what it tells about."""


class IChanges(Interface):
    """Transactions of administrators: what is changed, its audit row and the answer that is kept are one."""

    async def transact(name: str, cause: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        """Run C{work} in a transaction. What the database refuses comes as a L{qvd.model.errors.Refused}.

        @param cause: who and why, for the history that triggers write.
        """

    async def record(entry: AuditEntry) -> None:
        """Write an audit row in a transaction of its own: of what was not done."""


class IAuthority(Interface):
    """What administrators may do."""

    async def acls(administrator_id: int) -> frozenset[str]:
        """Permissions in effect, of all roles that somebody holds now, after the masks."""

    async def multitenant() -> bool:
        """Whether the installation has tenants besides the one."""
