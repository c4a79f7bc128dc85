"""The address plan of the VM network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.errors import InvalidRequest
from qvd.model.network import AddressPlan, node_fault, parse_plan

PLAN = parse_plan("10.0.0.0/16", "10.0.1.0", "10.0.0.1", "10.0.1.5")


@st.composite
def plans(draw: st.DrawFn) -> AddressPlan:
    """Any that is accepted."""
    prefix = draw(st.integers(8, 29))
    base = draw(st.integers(0, (1 << prefix) - 1)) << (32 - prefix)
    network = IPv4Network((base, prefix))
    first = draw(st.integers(base + 2, base + network.num_addresses - 2))
    inside = st.none() | st.integers(base + 1, base + network.num_addresses - 2).map(lambda n: str(IPv4Address(n)))
    try:
        return parse_plan(str(network), str(IPv4Address(first)), draw(inside), draw(inside))
    except InvalidRequest:
        return parse_plan(str(network), str(IPv4Address(base + 2)))


@given(plans(), st.data())
def test_the_parts_are_apart(plan: AddressPlan, data: st.DataObject) -> None:
    size = plan.network.num_addresses
    address = plan.network.network_address + data.draw(st.integers(0, size - 1))
    assert not (plan.in_node_part(address) and plan.for_vm(address))
    ends = (plan.network.network_address, plan.network.broadcast_address, plan.gateway)
    assert not any(plan.for_vm(end) for end in ends if end is not None)
    assert plan.in_node_part(plan.vms_from - 1)
    assert plan.capacity >= 1


@given(plans())
def test_it_survives_being_written(plan: AddressPlan) -> None:
    gateway, dns = (None if each is None else str(each) for each in (plan.gateway, plan.dns))
    assert parse_plan(str(plan.network), str(plan.vms_from), gateway, dns) == plan


@given(st.text(max_size=20), st.text(max_size=20))
def test_nonsense_is_refused_in_words(network: str, first: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_plan(network, first)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("10.0.0.1/16", "10.0.1.0"), "no IPv4 range"),
        (("fd00::/64", "fd00::9"), "no IPv4 range"),
        (("10.0.0.0/30", "10.0.0.2"), "its prefix must be from /8 to /29"),
        (("10.0.0.0/16", "10.0.0.1"), "cannot begin at 10.0.0.1"),
        (("10.0.0.0/16", "10.0.255.255"), "cannot begin"),
        (("10.0.0.0/16", "10.1.0.0"), "cannot begin"),
        (("10.0.0.0/16", "here"), "the first address of VMs needs one like"),
        (("10.0.0.0/16", "10.0.1.0", "10.1.0.1"), "gateway 10.1.0.1 is no address"),
        (("10.0.0.0/16", "10.0.1.0", "10.0.255.255"), "gateway 10.0.255.255 is no address"),
        (("10.0.0.0/16", "10.0.1.0", None, "no"), "name server needs one like"),
        (("10.0.0.0/29", "10.0.0.6", "10.0.0.6"), "has no address for a VM"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        parse_plan(*words)


def test_capacity_is_without_what_is_reserved() -> None:
    assert PLAN.capacity == 65279 - 1


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.255"])
def test_a_node_belongs_in_the_node_part(address: str) -> None:
    assert node_fault(PLAN, address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.0", "10.0.1.0", "here"])
def test_a_node_elsewhere_is_told(address: str) -> None:
    fault = node_fault(PLAN, address)
    assert fault is not None
    assert fault.startswith("node.address: ")
