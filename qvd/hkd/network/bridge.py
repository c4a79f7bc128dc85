# -*- test-case-name: tests.machines.test_network_service -*-
"""The bridge of the VM network, and the node's ends of the VMs' interfaces."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

from attrs import frozen

from qvd.hkd.network.commands import ICommandReactor, run
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId

OURS = "made by qvd-node"
"""Alias of a bridge that we made, and may remove again."""
LONGEST = 15
"""Characters of an interface's name. Source: C{IFNAMSIZ} of Linux, less its zero."""


def device_name(prefix: str, vm_id: VMId) -> str:
    """The node's end of a VM's interface.

    @raise PermanentError: the prefix is too long for that number.
    """
    name = f"{prefix}{vm_id}"
    if len(name) > LONGEST:
        raise PermanentError(f"The name {name} is too long for a network interface: vm.network.device_prefix is")
    return name


def mac_of(address: str) -> str:
    """A locally administered MAC for a bridge, made of the node's address, so that no two nodes have the same."""
    return "02:52:" + ":".join(f"{part:02x}" for part in ip_interface(address).ip.packed)


@frozen
class Bridge:
    """One bridge.

    @ivar address: of the node in the VM network, with the prefix: C{10.0.0.1/16}.
    @ivar create: it is ours to make and to remove.
    """

    reactor: ICommandReactor
    name: str
    address: str
    create: bool

    async def ensure(self) -> None:
        """Have it there, up, with the node's address.

        @raise PermanentError: it is not there, or another one than it should be, and is not ours to change.
        """
        found = await self._find()
        if found is None and not self.create:
            raise PermanentError(
                f"The bridge {self.name} (vm.network.bridge) does not exist: make it, with the address {self.address},"
                " or set vm.network.create_bridge"
            )
        if found is None:
            # An address of its own: else it takes that of its lowest port, and guests have known another one.
            await self._ip("link", "add", self.name, "address", mac_of(self.address), "type", "bridge")
            await self._ip("link", "set", self.name, "type", "bridge", "forward_delay", "0")
            await self._ip("link", "set", self.name, "alias", OURS)
            found = await self._find() or {}
        if found.get("linkinfo", {}).get("info_kind") != "bridge":
            raise PermanentError(f"The interface {self.name} (vm.network.bridge) is no bridge")
        await self._complete(found)

    async def _complete(self, found: dict[str, Any]) -> None:
        has = {f"{each.get('local')}/{each.get('prefixlen')}" for each in found.get("addr_info", ())}
        if self.address not in has:
            if not self.create:
                raise PermanentError(
                    f"The bridge {self.name} does not have this node's address {self.address} (node.address): add it"
                )
            await self._ip("address", "add", self.address, "dev", self.name)
        # Of frames to the group that bridges keep to themselves no filter sees any, so nothing is learned from them.
        await self._ip("link", "set", self.name, "type", "bridge", "no_linklocal_learn", "1")
        await self._ip("link", "set", self.name, "up")

    async def remove(self) -> None:
        """Remove the bridge where it is ours and no interface is joined to it any more."""
        found = await self._find()
        if found is None or found.get("ifalias") != OURS:
            return
        if not json.loads(await self._ip("-json", "link", "show", "master", self.name) or "[]"):
            await self._ip("link", "del", self.name)

    async def interfaces(self) -> set[str]:
        """The names of those that there are on this node."""
        return {each["ifname"] for each in json.loads(await self._ip("-json", "link", "show")) if "ifname" in each}

    async def delete(self, device: str) -> None:
        """Remove an interface of a VM that is left over; no effect when there is none."""
        if device in await self.interfaces():
            try:
                await self._ip("link", "del", device)
            except TransientError:
                # It went by itself, with its VM.
                if device in await self.interfaces():
                    raise

    async def _find(self) -> dict[str, Any] | None:
        every = json.loads(await self._ip("-json", "-details", "address", "show"))
        return next((each for each in every if each.get("ifname") == self.name), None)

    async def _ip(self, *words: str) -> str:
        return await run(self.reactor, ["ip", *words])
