# -*- test-case-name: tests.doctor.test_broken -*-
"""The VM network of a node: range, bridge, filters, forwarding, DHCP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from qvd.db.network import PLAN, plan_of
from qvd.doctor import programs
from qvd.doctor.findings import Finding, failure, not_applicable, note, ok
from qvd.doctor.place import Place, who
from qvd.hkd import configured
from qvd.hkd.drivers import NETWORKED
from qvd.hkd.network.dnsmasq import PROGRAM, SETPRIV
from qvd.hkd.network.firewall import TRACKING
from qvd.hkd.network.rules import FAMILIES, TABLE
from qvd.hkd.network.service import FORWARDING, NetworkTerms
from qvd.model.errors import DatabaseUnavailable, SettingsError
from qvd.model.network import AddressPlan, node_fault

DHCP_PORT = 67
TRIAL = "table bridge qvd_doctor { chain trial { type filter hook forward priority 0; accept; }; }"
Look = Callable[[Place, NetworkTerms], Iterator[Finding]]


def networked(what: str) -> Callable[[Look], Callable[[Place], Iterator[Finding]]]:
    """Of nodes without a VM network: not applicable."""

    def wrap(look: Look) -> Callable[[Place], Iterator[Finding]]:
        def wrapped(place: Place) -> Iterator[Finding]:
            if place.driver not in NETWORKED:
                yield not_applicable(what, f"VMs of the driver {place.driver} have no addresses of their own")
                return
            try:
                terms = configured.network_terms(place.settings)
            except SettingsError as error:
                yield not_applicable(what, f"{error.text} (settings.valid)")
                return
            if terms is None:
                yield not_applicable(what, "no bridge is configured (settings.valid)")
            else:
                yield from look(place, terms)

        return wrapped

    return wrap


def plan_at(place: Place) -> AddressPlan | None:
    """The installation's range; L{None}: there is none, or nobody can say."""
    with suppress(DatabaseUnavailable), place.reading() as reader:
        rows = reader.rows(PLAN)
        return plan_of(rows[0]) if rows else None
    return None


@networked("the range of the VM network")
def look_at_range(place: Place, terms: NetworkTerms) -> Iterator[Finding]:
    """There is one, and the node has an address in its part of it."""
    plan = plan_at(place)
    if plan is None:
        yield failure(
            "the range of the VM network",
            "There is none: the node cannot start",
            "set one: qvd-db network --range 10.0.0.0/16 --vms-from 10.0.1.0",
        )
        return
    wrong = node_fault(plan, terms.address)
    looked_at = f"node.address {terms.address} in {plan.network}"
    if wrong is not None:
        yield failure(looked_at, wrong, "set node.address to a free address of the nodes' part")
    else:
        yield ok(looked_at, f"it is in the nodes' part; VMs begin at {plan.vms_from}")


@networked("the bridge")
def look_at_bridge(place: Place, terms: NetworkTerms) -> Iterator[Finding]:
    """It is there, or may be made; up, and with the node's address."""
    looked_at = f"the interface {terms.bridge} (vm.network.bridge)"
    said = programs.run(["ip", "-json", "-details", "address", "show"])
    if not said.good:
        yield failure(looked_at, f"Interfaces cannot be listed ({said.reason})", "apt-get install iproute2")
        return
    every = json.loads(said.out or "[]")
    found = next((each for each in every if each.get("ifname") == terms.bridge), None)
    if found is None and terms.create:
        yield ok(looked_at, "it is not there yet: the node makes it (vm.network.create_bridge)")
    elif found is None:
        yield failure(
            looked_at,
            "It does not exist: the node cannot start",
            f"make it, with the address {terms.address}, or set vm.network.create_bridge to true",
        )
    elif found.get("linkinfo", {}).get("info_kind") != "bridge":
        yield failure(
            looked_at, "It is no bridge: the node cannot start", "correct vm.network.bridge, or make a bridge"
        )
    else:
        yield from state_of(found, looked_at, terms, plan_at(place))
    if terms.nat_interface is not None and all(each.get("ifname") != terms.nat_interface for each in every):
        yield failure(
            f"the interface {terms.nat_interface} (vm.network.nat_interface)",
            "It does not exist: VMs do not reach the outside",
            "correct vm.network.nat_interface ('ip route' shows which one leads outside)",
        )


def state_of(found: dict[str, Any], looked_at: str, terms: NetworkTerms, plan: AddressPlan | None) -> Iterator[Finding]:
    prefix = 24 if plan is None else plan.network.prefixlen
    has = {each.get("local"): each.get("prefixlen") for each in found.get("addr_info", ())}
    cure = f"ip address add {terms.address}/{prefix} dev {terms.bridge}; or set vm.network.create_bridge to true"
    if terms.address not in has and not terms.create:
        yield failure(looked_at, f"It does not have this node's address {terms.address}: the node cannot start", cure)
    elif plan is not None and terms.address in has and has[terms.address] != prefix and not terms.create:
        yield failure(
            looked_at,
            f"Its address {terms.address} has the prefix /{has[terms.address]}, the VM network has /{prefix}:"
            " the node cannot start",
            cure,
        )
    elif "UP" not in found.get("flags", ()):
        yield note(looked_at, "It is down; the node sets it up when it starts", f"ip link set {terms.bridge} up")
    else:
        yield ok(looked_at, "it is a bridge, up, with this node's address")


@networked("nftables")
def look_at_filters(place: Place, terms: NetworkTerms) -> Iterator[Finding]:
    """The kernel takes our filters; and has them, while the node runs."""
    said = programs.run(["nft", "--check", "-f", "-"], TRIAL)
    if programs.find("nft") is None:
        yield failure("nftables", "The program nft is not installed: the node cannot start", "apt-get install nftables")
        return
    if not said.good and "permitted" in said.reason:
        yield not_applicable("nftables", f"{who()} may not ask it; run the doctor as root")
        return
    if not said.good:
        yield failure(
            "nftables",
            f"The kernel takes no filters of bridges ({said.reason}): the node cannot start",
            "use a kernel with nf_tables (CONFIG_NF_TABLES_BRIDGE; modprobe nf_tables)",
        )
        return
    tracked = programs.run(["nft", "--check", "-f", "-"], TRACKING).good
    listed = programs.run(["nft", "-j", "list", "tables"])
    tables = [each["table"] for each in json.loads(listed.out or "{}").get("nftables", ()) if "table" in each]
    ours = {each["family"] for each in tables if each["name"] == TABLE}
    how = "tracked" if tracked else "told by their flags"
    if ours and ours != set(FAMILIES):
        yield failure(
            "nftables",
            f"Of the node's tables only those of {', '.join(sorted(ours))} are there: somebody removed others",
            "systemctl restart qvd-node sets them anew; do not flush rulesets of other families",
        )
    else:
        there = "and has the node's filters" if ours else "and has none of the node's yet"
        yield ok("nftables", f"the kernel takes filters of bridges {there}; connections are {how}")


@networked("forwarding")
def look_at_forwarding(place: Place, terms: NetworkTerms) -> Iterator[Finding]:
    """Where VMs reach the outside through this node."""
    looked_at = FORWARDING
    if terms.nat_interface is None:
        yield not_applicable(looked_at, "VMs do not reach the outside through this node (vm.network.nat_interface)")
    elif Path(FORWARDING).read_text("ascii").strip() != "1":
        yield failure(
            looked_at,
            "This node does not forward, and vm.network.nat_interface is set: the node cannot start",
            "sysctl -w net.ipv4.ip_forward=1, and the same in /etc/sysctl.d",
        )
    else:
        yield ok(looked_at, "this node forwards")


@networked("DHCP")
def look_at_dhcp(place: Place, terms: NetworkTerms) -> Iterator[Finding]:
    """The node can answer VMs that ask for their address."""
    looked_at = "dnsmasq (vm.network.dhcp)"
    if not terms.dhcp:
        yield not_applicable(looked_at, "this node does not answer (vm.network.dhcp)")
        return
    if programs.find(PROGRAM) is None:
        yield failure(looked_at, "It is not installed: VMs get no address", "apt-get install dnsmasq-base")
        return
    if not Path(SETPRIV).exists():
        yield failure(SETPRIV, "It is missing: dnsmasq is not started without it", "apt-get install util-linux")
        return
    others = [name for name in holders() if name != PROGRAM]
    if others:
        yield failure(
            looked_at,
            f"{others[0]} answers DHCP on this machine already (UDP port {DHCP_PORT}): VMs may get wrong addresses",
            f"end it, or have it keep away from {terms.bridge}; or set vm.network.dhcp to false",
        )
    else:
        yield ok(looked_at, "it is installed, and nobody else answers DHCP here")


def holders() -> Iterator[str]:
    """Programs that listen at DHCP's port, as far as can be seen."""
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("udp4"):
            if each.laddr and each.laddr.port == DHCP_PORT and each.pid is not None:
                yield psutil.Process(each.pid).name()
