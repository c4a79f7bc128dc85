"""Ports: the database, and its bells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import frozen
from zope.interface import Interface

T = TypeVar("T")
Row = Mapping[str, Any]
Parameters = Sequence[object] | Mapping[str, object]


@frozen
class PoolLoad:
    """What a set of connections does just now.

    @ivar available: the server answers, as far as is known.
    @ivar waiting: calls that no connection is free for.
    """

    available: bool
    busy: int
    idle: int
    waiting: int


class ITransaction(Interface):
    """An open transaction. Valid only inside the function it was given to."""

    async def fetch(sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """Run one statement and return its rows, each a mapping from column name to value."""

    async def fetch_one(sql: str, parameters: Parameters = ()) -> Row | None:
        """Run one statement that returns at most one row."""

    async def execute(sql: str, parameters: Parameters = ()) -> int:
        """Run one statement and return the number of rows it touched."""


class IDatabase(ITransaction):
    """PostgreSQL. C{fetch}, C{fetch_one} and C{execute} here are transactions of one statement each.

    What the server undoes for the sake of others, as in a deadlock, is tried again a bounded number of times.
    Each call may raise L{qvd.model.errors.DatabaseUnavailable}: the server does not answer, or the deadline passed.
    Whether a write took place is then unknown. Errors of the statement itself (a violated constraint) come as
    C{psycopg2.Error}, with the connection kept.
    """

    async def transact(name: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        """Run C{work} in one transaction: committed when it returns, rolled back when it raises.

        Tried again a bounded number of times on a serialization failure or a deadlock, so C{work} must have no
        effect of its own. No second connection may be asked for inside C{work}.
        @param name: of the transaction, for logs.
        """


class IBells(Interface):
    """Notifications from PostgreSQL. A bell says only "look again"."""

    def listen(channel: str, ring: Callable[[str], None]) -> Callable[[], None]:
        """Call C{ring(payload)} for each notification on C{channel}, and C{ring("")} after every (re)connect,
        since bells may have been missed. Return a function that ends this."""
