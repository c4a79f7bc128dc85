# -*- test-case-name: tests.admin.test_config -*-
"""Configuration in the database, as what reads it needs it: one short query by an index, so each call sees changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import Row
from qvd.interfaces.logins import ILoginPolicy, Lifetime
from qvd.model.configuration import (
    KEYS,
    MULTITENANT,
    SESSION_ABSOLUTE,
    SESSION_FRESH,
    SESSION_IDLE,
    TOKEN_DANGEROUS,
    Effective,
    Key,
    Place,
    Stored,
    effective,
    key_of,
)

LEGACY_SALT = "qvd1234"
"""Of passwords that QVD 4.2 wrote: nobody is known to have changed it."""


class Reads(Protocol):
    """A transaction, or the database itself."""

    async def fetch(self, sql: str, parameters: Any = ()) -> Sequence[Row]:
        """Rows of a query."""


async def stored(reads: Reads, names: Iterable[str], place: Place) -> Stored:
    """What is set at a place, and at those that it has values of."""
    rows = await reads.fetch(
        "SELECT tenant_id, host_id, key, value FROM configs WHERE key = ANY (%s)"
        " AND tenant_id = ANY (%s) AND (host_id IS NULL OR host_id = %s)",
        (list(names), [each.tenant_id for each in place.chain()], place.host_id),
    )
    return {(row["key"], Place(row["tenant_id"], row["host_id"])): row["value"] for row in rows}


async def effective_values(reads: Reads, keys: Sequence[Key], place: Place) -> list[Effective]:
    """What counts, key by key."""
    found = await stored(reads, [key.name for key in keys], place)
    return [effective(key, found, place) for key in keys]


async def values_of(reads: Reads, names: Sequence[str], tenant_id: int | None = None) -> list[Any]:
    """Values of keys, in that order: of a tenant, or (L{None}) of the installation."""
    keys = [key for name in names if (key := key_of(name, KEYS)) is not None]
    assert len(keys) == len(names), names
    found = await effective_values(reads, keys, Place() if tenant_id is None else Place(tenant_id))
    return [each.value for each in found]


async def value_of(reads: Reads, name: str, tenant_id: int | None = None) -> Any:
    """The value of one key."""
    [found] = await values_of(reads, [name], tenant_id)
    return found


@implementer(ILoginPolicy)
@frozen
class LoginSettings:
    """What the configuration says about logins of administrators."""

    reads: Reads

    async def multitenant(self) -> bool:
        """Whether there are several tenants."""
        return bool(await value_of(self.reads, MULTITENANT))

    async def legacy_salt(self) -> str:
        return LEGACY_SALT

    async def lifetime(self) -> Lifetime:
        idle, absolute, fresh = await values_of(self.reads, [SESSION_IDLE, SESSION_ABSOLUTE, SESSION_FRESH])
        return Lifetime(int(idle), int(absolute), int(fresh))

    async def dangerous_seconds(self) -> int:
        return int(await value_of(self.reads, TOKEN_DANGEROUS))
