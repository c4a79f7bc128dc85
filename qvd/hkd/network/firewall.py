# -*- test-case-name: tests.machines.test_network_service -*-
"""
The filters as they are in the kernel. Each change is one transaction of C{nft}: all of it, or nothing.

An empty chain tells which policy the tables were made of. A daemon that finds its own policy there only adds and
takes away the VMs that differ, so that those which run never go without their filters, nor without their network.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from qvd.hkd.network.commands import ICommandReactor, run
from qvd.hkd.network.rules import ADDRESSES, FAMILIES, TABLE, Member, Policy, elements, policy_mark, removal, render
from qvd.model.errors import TransientError

TRACKING = (
    "table bridge qvd_probe { chain probe { type filter hook forward priority 0; ct state established accept; }; }"
)


class Firewall:
    """The filters of this node.

    @param policy: what they are made of.
    """

    log = Logger()

    def __init__(self, reactor: ICommandReactor, policy: Policy) -> None:
        self._reactor = reactor
        self._policy = policy
        self._wanted: set[Member] = set()
        self._applied: set[Member] = set()
        self._lock = DeferredLock()

    async def begin(self, members: Iterable[Member]) -> None:
        """Have the filters there, for these VMs and no others.

        @raise TransientError: they could not be set.
        """
        self._wanted = set(members)
        found = await self._find()
        if found is None:
            await self._replace()
            return
        self._applied = found
        await self._change()

    async def known(self) -> set[Member]:
        """The VMs that the filters let speak now, whoever set them."""
        return await self._find(any_policy=True) or set()

    async def admit(self, member: Member) -> None:
        """Let a VM speak. Many at a time are one transaction."""
        self._wanted = {each for each in self._wanted if each.device != member.device} | {member}
        await self._settle()

    async def dismiss(self, device: str) -> None:
        """Let it speak no more."""
        self._wanted = {each for each in self._wanted if each.device != device}
        if all(each.device != device for each in self._applied):
            # Perhaps one of a daemon that gave way to us after we had looked.
            self._applied |= {each for each in await self.known() if each.device == device}
        await self._settle()

    async def remove(self) -> None:
        """Remove our tables, and nothing else."""
        self._wanted, self._applied = set(), set()
        await self._nft(removal())

    async def _settle(self) -> None:
        # Those that come while one is under way find that the next one has done their work, too.
        await self._lock.run(lambda: Deferred.fromCoroutine(self._change()))

    async def _change(self) -> None:
        wanted = set(self._wanted)
        gone, new = by_device(self._applied - wanted), by_device(wanted - self._applied)
        if not gone and not new:
            return
        try:
            await self._nft(elements("delete", gone) + elements("add", new))
        except TransientError as error:
            self.log.warn("the filters are not what they were: {reason}; setting them anew", reason=error.text)
            await self._replace()
        else:
            self._applied = wanted

    async def _replace(self) -> None:
        wanted = set(self._wanted)
        await self._nft(render(self._policy, wanted))
        self._applied = wanted

    async def _find(self, any_policy: bool = False) -> set[Member] | None:
        """The VMs in the sets; L{None} where the filters are not there, or of another policy.

        @raise TransientError: it cannot be known.
        """
        tables = [each["table"] for each in await self._list("tables") if "table" in each]
        if {each["family"] for each in tables if each["name"] == TABLE} != set(FAMILIES):
            return None
        listed = await self._list("table", "bridge", TABLE)
        chains = {each["chain"]["name"] for each in listed if "chain" in each}
        if not any_policy and policy_mark(self._policy) not in chains:
            return None
        return set(members_of(listed))

    async def _list(self, *what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await run(self._reactor, ["nft", "-j", "list", *what]))["nftables"]
        return found

    async def _nft(self, text: str) -> None:
        await run(self._reactor, ["nft", "-f", "-"], text)


def by_device(members: Collection[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.device)


def members_of(listed: Iterable[dict[str, Any]]) -> Iterable[Member]:
    """What C{nft -j} says of the set C{addresses}."""
    for each in listed:
        found = each.get("set", {})
        if found.get("name") == ADDRESSES:
            for element in found.get("elem", ()):
                yield Member(*element["concat"])


async def tracks_bridged(reactor: ICommandReactor) -> bool:
    """Whether the kernel tracks connections from port to port of a bridge (C{CONFIG_NF_CONNTRACK_BRIDGE})."""
    try:
        await run(reactor, ["nft", "--check", "-f", "-"], TRACKING)
    except TransientError:
        return False
    return True
