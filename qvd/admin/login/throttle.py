# -*- test-case-name: tests.admin.test_throttle -*-
"""How often somebody may call, and how often they may fail to log in."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from qvd.admin.call import Call
from qvd.admin.problems import Problem
from qvd.interfaces.logins import Bucket, Limit

LIMITS = {
    "pair": Limit(free=5, first=30, longest=900, forget=900),
    "address": Limit(free=20, first=30, longest=900, forget=900),
    "account": Limit(free=50, first=30, longest=900, forget=900),
    "tenant": Limit(free=200, first=30, longest=300, forget=900),
}
"""The first is what a person who mistypes meets. The others, of whoever tries many names from one place, or one name
from many places, count more before they make anybody wait, and never one who logged in from there before."""


def network_of(address: str) -> str:
    """What counts as one address: of IPv6, the network that one subscriber has."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped) if found.ipv4_mapped else found.exploded[:19]
    return str(found)


def buckets_of(tenant: str, name: str, address: str) -> Sequence[Bucket]:
    """Where an attempt to log in counts. Whether there is such an account makes no difference."""
    tenant, name, network = tenant.strip().lower(), name.strip().lower(), network_of(address)
    parts = {
        "account": (tenant, name),
        "address": (network,),
        "pair": (tenant, name, network),
        "tenant": (tenant,),
    }
    return [
        Bucket(kind, hashlib.sha256("\0".join(part).encode("utf-8", "surrogatepass")).digest(), LIMITS[kind])
        for kind, part in parts.items()
    ]


def too_many(seconds: float) -> Problem:
    """Refuses, and says until when."""
    wait = max(1, math.ceil(seconds))
    return Problem("too-many-requests", f"Wait {wait} seconds", headers={"Retry-After": str(wait)})


@frozen
class Rate:
    """@ivar burst: calls at once. C{each}: seconds until another one is free."""

    burst: int
    each: float


@define
class RequestThrottle:
    """L{qvd.admin.services.Throttle} in memory, for each server by itself.

    A caller's place holds when everything that was used will be free again, so that an idle one can be forgotten.
    """

    clock: IReactorTime
    known: Rate = Rate(500, 0.005)
    unknown: Rate = Rate(100, 0.2)
    most: int = 10_000
    _free_at: OrderedDict[str, float] = field(factory=OrderedDict)
    _told: OrderedDict[str, float] = field(factory=OrderedDict)

    async def admit(self, call: Call) -> None:
        caller = call.caller
        rate = self.unknown if caller is None else self.known
        who = network_of(call.client_address) if caller is None else f"administrator {caller.administrator_id}"
        wait = self._wait(who, rate)
        if wait <= 0:
            return
        # A flood does not fill the audit trail: one row for each wait says it.
        call.recorded = caller is None and not self._first(who)
        raise too_many(wait)

    def _wait(self, who: str, rate: Rate) -> float:
        now = self.clock.seconds()
        free_at = max(now, self._free_at.pop(who, now))
        wait = free_at + rate.each - now - rate.burst * rate.each
        # Rounding must not take a call away.
        self._free_at[who] = free_at if wait > 1e-6 else free_at + rate.each
        while len(self._free_at) > self.most:
            self._free_at.popitem(last=False)
        return wait if wait > 1e-6 else 0.0

    def _first(self, who: str) -> bool:
        """Whether it was not told in this minute."""
        now = self.clock.seconds()
        if self._told.get(who, -math.inf) > now - 60:
            return False
        self._told[who] = now
        self._told.move_to_end(who)
        while len(self._told) > self.most:
            self._told.popitem(last=False)
        return True
