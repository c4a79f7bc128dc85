# -*- test-case-name: tests.contract.test_db_changes -*-
"""Transactions of administrators, and the audit trail that each of them ends with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import psycopg2
import psycopg2.errors
from attrs import asdict, frozen
from zope.interface import implementer

from qvd.db.connection import unavailable
from qvd.interfaces import IDatabase, ITransaction
from qvd.interfaces.administration import AuditEntry, IAudit, IChanges
from qvd.model.errors import Refused

T = TypeVar("T")
PASSING = (
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.QueryCanceled,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.ReadOnlySqlTransaction,
    psycopg2.errors.DiskFull,
    psycopg2.errors.OutOfMemory,
)
"""Nobody's fault here: what was tried again in vain, a server that has become a standby, a full disk."""


@implementer(IAudit)
@frozen
class Audit:
    """L{IAudit} in PostgreSQL: the function C{audit_append} chains the rows."""

    async def append(self, entry: AuditEntry, tx: ITransaction) -> None:
        await tx.execute("SELECT audit_append(%s::jsonb)", (as_json(entry),))


@implementer(IChanges)
@frozen
class Changes:
    """L{IChanges} over PostgreSQL."""

    db: IDatabase
    audit: IAudit

    async def transact(self, name: str, cause: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        async def whole(tx: ITransaction) -> T:
            await tx.execute("SELECT set_config('qvd.cause', %s, true)", (cause,))
            return await work(tx)

        try:
            result: T = await self.db.transact(name, whole)
        except psycopg2.Error as error:
            raise refused(error) from error
        return result

    async def record(self, entry: AuditEntry) -> None:
        await self.db.execute("SELECT audit_append(%s::jsonb)", (as_json(entry),))


def as_json(entry: AuditEntry) -> str:
    """A row of the audit trail. PostgreSQL's JSON holds no NUL, and no half of a surrogate pair."""
    text = msgspec.json.encode(asdict(entry), enc_hook=str).decode("utf-8", "replace")
    return text.replace("\\u0000", "\\ufffd")


def refused(error: psycopg2.Error) -> Exception:
    """What a constraint says no to, as a sentence; any other error as it is.

    What a trigger of ours raises has its own sentence. What PostgreSQL itself says holds values, which may be those of
    somebody else's row.
    """
    if isinstance(error, PASSING):
        return unavailable("The database cannot do that now; try again in a few seconds")
    constraint, said = error.diag.constraint_name or "", error.diag.message_primary or ""
    match error:
        case psycopg2.errors.UniqueViolation():
            return Refused(
                "An object of that name, or with that address, exists already" if constraint else said,
                "unique",
                constraint,
            )
        case psycopg2.errors.ForeignKeyViolation() if not constraint:
            return Refused(said, "dependents")
        case psycopg2.errors.ForeignKeyViolation() if said.startswith("update or delete"):
            table = error.diag.table_name or "other objects"
            return Refused(f"It is still in use: there are {table} that belong to it", "dependents", constraint)
        case psycopg2.errors.ForeignKeyViolation():
            return Refused("It refers to an object that does not exist", "reference", constraint)
        case psycopg2.errors.NotNullViolation():
            return Refused(f"A value is missing ({error.diag.column_name})", "check")
        case psycopg2.errors.CheckViolation():
            return Refused(f"A value is not allowed ({constraint})" if constraint else said, "check", constraint)
        case psycopg2.errors.ProgramLimitExceeded():
            return Refused(said, "limit")
        case psycopg2.errors.DataError():
            return Refused("A value is out of range, or none of its kind", "check")
        case _:
            return error
