# -*- test-case-name: tests.unit.test_model_network -*-
"""The address plan of the VM network: one IPv4 range for the whole installation, the nodes' part first."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from attrs import frozen

from qvd.model.errors import InvalidRequest

LONGEST_PREFIX = 29
"""Less than eight addresses are none for nodes and VMs."""
SHORTEST_PREFIX = 8


@frozen
class AddressPlan:
    """One that makes sense: only L{parse_plan} makes it.

    @ivar network: the range.
    @ivar vms_from: first address of the VM part; all before it is the node part.
    @ivar gateway: the VMs' way out; L{None}: there is none, or each node is that of its VMs.
    @ivar dns: what DHCP tells VMs; L{None}: nothing.
    """

    network: IPv4Network
    vms_from: IPv4Address
    gateway: IPv4Address | None = None
    dns: IPv4Address | None = None

    @property
    def vms_to(self) -> IPv4Address:
        """Last address that a VM can have: the next one is for broadcasts."""
        return self.network.broadcast_address - 1

    def in_node_part(self, address: IPv4Address) -> bool:
        """Whether a node, or a service beside the VMs, may have it."""
        return self.network.network_address < address < self.vms_from

    def for_vm(self, address: IPv4Address) -> bool:
        """Whether a VM may have it."""
        return self.vms_from <= address <= self.vms_to and address not in (self.gateway, self.dns)

    @property
    def capacity(self) -> int:
        """How many VMs there can be."""
        reserved = {each for each in (self.gateway, self.dns) if each and self.vms_from <= each <= self.vms_to}
        return int(self.vms_to) - int(self.vms_from) + 1 - len(reserved)


def parse_plan(network: str, vms_from: str, gateway: str | None = None, dns: str | None = None) -> AddressPlan:
    """@raise InvalidRequest: the sentence says what is wrong with it."""
    plan = AddressPlan(
        parse_range(network),
        parse_address(vms_from, "first address of VMs"),
        None if gateway is None else parse_address(gateway, "gateway"),
        None if dns is None else parse_address(dns, "name server"),
    )
    wrong = fault(plan)
    if wrong is not None:
        raise InvalidRequest(wrong)
    return plan


def parse_range(text: str) -> IPv4Network:
    """@raise InvalidRequest: no network, or one of a size that is of no use."""
    try:
        network = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidRequest(f"{text!r} is no IPv4 range: write it like 10.0.0.0/16, with no bits behind it") from None
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise InvalidRequest(
            f"The range {network} is of no use: its prefix must be from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}"
        )
    return network


def parse_address(text: str, what: str) -> IPv4Address:
    """@raise InvalidRequest: it is none."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise InvalidRequest(f"{text!r} is no IPv4 address: the {what} needs one like 10.0.0.1") from None


def fault(plan: AddressPlan) -> str | None:
    """What is wrong with the parts of a plan, seen together."""
    network, first = plan.network, plan.vms_from
    if not network.network_address + 1 < first <= plan.vms_to:
        return (
            f"The VMs of the range {network} cannot begin at {first}: from {network.network_address + 2} on, which"
            f" leaves an address for a node, to {plan.vms_to}"
        )
    if plan.gateway is not None and not network.network_address < plan.gateway <= plan.vms_to:
        return f"The gateway {plan.gateway} is no address that a machine in the range {network} can have"
    if plan.capacity < 1:
        return f"The range {network} has no address for a VM from {first} on"
    return None


def node_fault(plan: AddressPlan, node_address: str) -> str | None:
    """What is wrong with the address of a node."""
    try:
        address = IPv4Address(node_address)
    except AddressValueError:
        return f"node.address: {node_address!r} is no IPv4 address"
    if plan.in_node_part(address):
        return None
    return (
        f"node.address: {address} is not in the nodes' part of the VM network {plan.network}, which is"
        f" {plan.network.network_address + 1} to {plan.vms_from - 1}"
    )
