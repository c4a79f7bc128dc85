# -*- test-case-name: tests.admin.test_stats -*-
"""Statistics: what the dashboard shows, each number for whoever may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.problems import Problem
from qvd.admin.queries import whole
from qvd.admin.settings import value_of
from qvd.model.configuration import EXPIRING_DAYS

# By part and number, the permission that shows it. The total is for whoever sees any.
PARTS: Mapping[str, Mapping[str, str]] = {
    "users": {
        "total": "user.stats.summary",
        "blocked": "user.stats.blocked",
        "connected": "user.stats.connected-users",
    },
    "vms": {
        "total": "vm.stats.summary",
        "blocked": "vm.stats.blocked",
        "by_state": "vm.stats.running-vms",
        "expiring": "vm.stats.close-to-expire",
    },
    "hosts": {
        "total": "host.stats.summary",
        "blocked": "host.stats.blocked",
        "by_state": "host.stats.running-hosts",
    },
    "osfs": {"total": "osf.stats.summary"},
    "images": {
        "total": "di.stats.summary",
        "blocked": "di.stats.blocked",
        "by_state": "di.stats.summary",
    },
}
EXPIRE, TOP = "vm.stats.close-to-expire", "host.stats.top-hosts-most-vms"
ANY = tuple(dict.fromkeys(name for part in PARTS.values() for name in part.values()))
MOST, DEFAULT = 500, 50
LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, "Objects, at most")


class Counts(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How many there are. What the caller may not see is absent. C{expiring}: within the days of C{expiring_days}."""

    total: int
    blocked: int | None = None
    connected: int | None = None
    by_state: dict[str, int] | None = None
    expiring: int | None = None


class Statistics(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The numbers of now."""

    users: Counts | None = None
    vms: Counts | None = None
    hosts: Counts | None = None
    osfs: Counts | None = None
    images: Counts | None = None
    expiring_days: int | None = None


class Expiring(msgspec.Struct, forbid_unknown_fields=True):
    """A VM with a date that comes soon."""

    id: int
    name: str
    user_name: str
    soft: datetime | None
    hard: datetime | None


class Expirations(msgspec.Struct, forbid_unknown_fields=True):
    """VMs that expire within so many days, the next one first."""

    days: int
    items: list[Expiring]


class TopHost(msgspec.Struct, forbid_unknown_fields=True):
    """A node, with how many of the caller's VMs it has."""

    id: int
    name: str
    number_of_vms: int
    running_vms: int


class TopHosts(msgspec.Struct, forbid_unknown_fields=True):
    """Nodes with the most VMs of the caller's."""

    items: list[TopHost]


class Stats:
    """The operations."""

    def __init__(self, peers: object) -> None:
        """@param peers: all collections; none of them is of use here."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        days = Parameter("days", {"type": "integer", "minimum": 1, "maximum": 3650}, "Within so many days")
        return [
            Endpoint(
                method="GET",
                path="/stats",
                action="stats.read",
                need=acl(*ANY),
                handler=self.read,
                summary="Statistics: how many objects there are, by state",
                answers={200: Statistics},
                tag="stats",
            ),
            Endpoint(
                method="GET",
                path="/stats/expirations",
                action="stats.expirations",
                need=acl(EXPIRE),
                handler=self.expirations,
                summary="Statistics: virtual machines that expire soon",
                answers={200: Expirations},
                parameters=(days, LIMIT),
                tag="stats",
            ),
            Endpoint(
                method="GET",
                path="/stats/top-hosts",
                action="stats.top-hosts",
                need=acl(TOP),
                handler=self.top_hosts,
                summary="Statistics: nodes with the most of the caller's virtual machines",
                answers={200: TopHosts},
                parameters=(LIMIT,),
                tag="stats",
            ),
        ]

    async def read(self, call: Call) -> Answer:
        principal = call.principal
        seen = {
            part: {name for name, needed in numbers.items() if principal.holds(needed)} | {"total"}
            for part, numbers in PARTS.items()
            if principal.holds(*numbers.values())
        }
        days = await soon(call)
        counts = await call.services.statistics.counts(call.scope, list(seen), days)
        told = {part: Counts(**{name: counts[part][name] for name in names}) for part, names in seen.items()}
        shows_expiring = "expiring" in seen.get("vms", ())
        return Answer(200, Statistics(**told, expiring_days=days if shows_expiring else None))

    async def expirations(self, call: Call) -> Answer:
        days = whole(call, "days") or await soon(call)
        if days > 3650:
            raise Problem("malformed-request", "days is a number from 1 to 3650")
        rows = await call.services.statistics.expiring(call.scope, days, most(call, DEFAULT))
        return Answer(200, Expirations(days, [Expiring(**row) for row in rows]))

    async def top_hosts(self, call: Call) -> Answer:
        rows = await call.services.statistics.top_hosts(call.scope, most(call, 6))
        return Answer(200, TopHosts([TopHost(**row) for row in rows]))


async def soon(call: Call) -> int:
    """Within how many days something expires soon."""
    return int(await value_of(call.services.database, EXPIRING_DAYS, call.scope.tenant_id))


def most(call: Call, default: int) -> int:
    limit = whole(call, "limit") or default
    if limit > MOST:
        raise Problem("malformed-request", f"limit is a number from 1 to {MOST}")
    return limit
