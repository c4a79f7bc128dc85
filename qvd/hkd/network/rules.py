# -*- test-case-name: tests.unit.test_network_rules,tests.machines.test_network_packets -*-
"""
The filters of the VM network as text for C{nft}: pure.

What a VM's interface sends is checked first, frame by frame (C{table bridge}, C{prerouting}): its own MAC, its own IPv4
address, ARP about itself, and nothing else. What may reach whom is decided where a frame goes: from port to port of the
bridge (C{table bridge}, C{forward}), to the node itself or through it to elsewhere (C{table ip}). Where the kernel lets
bridged IPv4 pass the latter, too (C{bridge-nf-call-iptables}), it is judged in both, by the same policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from attrs import frozen

from qvd.model.network import AddressPlan

TABLE = "qvd"
FAMILIES = ("bridge", "ip", "ip6")
"""Of the tables, all of that name."""
CARDS, ADDRESSES = "cards", "addresses"


@frozen
class Member:
    """A VM's place in the sets of the filters.

    @ivar device: node's end of its interface.
    """

    device: str
    mac: str
    address: str


@frozen
class Policy:
    """What the filters are made of.

    @ivar prefix: how the names of VMs' interfaces begin.
    @ivar guest_ports: TCP ports of VMs that nodes use: single ones, and ranges such as C{4100-4199}.
    @ivar login_port: where VMs may log in, on nodes; L{None}: nowhere.
    @ivar isolated: VMs do not reach each other.
    @ivar dhcp: this node answers.
    @ivar dns: this node answers.
    @ivar nat_interface: leads outside; L{None}: this node takes no VM outside.
    @ivar nat_except: networks that are not outside.
    @ivar tracked: the kernel tracks connections from port to port of a bridge.
    """

    plan: AddressPlan
    bridge: str
    prefix: str
    guest_ports: Sequence[str]
    login_port: int | None = None
    isolated: bool = True
    dhcp: bool = False
    dns: bool = False
    nat_interface: str | None = None
    nat_except: Sequence[str] = ()
    tracked: bool = False

    @property
    def guests(self) -> str:
        """Matches the names of VMs' interfaces."""
        return f'"{self.prefix}*"'

    @property
    def unbridged(self) -> str:
        """Matches what comes from a VM's interface itself. The bridge's own name may begin like theirs."""
        return f'iifname != "{self.bridge}" iifname {self.guests}'

    @property
    def vms(self) -> str:
        return f"{self.plan.vms_from}-{self.plan.network.broadcast_address}"

    @property
    def nodes(self) -> str:
        return f"{self.plan.network.network_address}-{self.plan.vms_from - 1}"

    @property
    def ports(self) -> str:
        return f"{{ {', '.join(self.guest_ports)} }}"


TRACKED = "ct state established,related accept"
UNTRACKED = (
    # Every segment but the first of a connection.
    "tcp flags & (syn | ack) != syn accept",
    "icmp type { echo-reply, destination-unreachable, time-exceeded } accept",
)
MULTICAST = "224.0.0.0-255.255.255.255"
FLOODED = f"ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 oifname . ether daddr != @{CARDS} drop"
"""A bridge that does not know where a MAC is sends its frames to all: what is for one VM is not for others."""


def render(policy: Policy, members: Iterable[Member]) -> str:
    """The whole ruleset. To be applied in one transaction, it replaces what was there."""
    found = sorted(members, key=lambda member: member.device)
    mark = f"chain {policy_mark(policy)} {{ }}"
    bridge = table("bridge", [*sets_of(found), mark, *chains(bridge_chains(policy))])
    return removal() + "\n".join([*bridge, *routed_tables(policy)]) + "\n"


def routed_tables(policy: Policy) -> list[str]:
    """What is judged where the node itself, or another network, is meant."""
    return [*table("ip", chains(ip_chains(policy))), *table("ip6", chains(ip6_chains(policy)))]


def removal() -> str:
    """Takes our tables away, where they are."""
    return "".join(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in FAMILIES)


def policy_mark(policy: Policy) -> str:
    """Name of an empty chain, by which a later daemon knows what the rules were made of, and by which release."""
    text = "\n".join([*chains(bridge_chains(policy)), *routed_tables(policy)])
    return f"policy_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def table(family: str, body: Iterable[str]) -> list[str]:
    return [f"table {family} {TABLE} {{", *(f"  {line}" for line in body), "}"]


def chains(given: Iterable[tuple[str, str, Sequence[str]]]) -> list[str]:
    """@param given: name, hook (empty: none) and rules of each."""
    lines: list[str] = []
    for name, hook, rules in given:
        base = [f"type filter hook {hook}; policy accept;"] if hook and "type" not in hook else [hook] if hook else []
        lines += [f"chain {name} {{", *(f"  {rule}" for rule in [*base, *rules]), "}"]
    return lines


def sets_of(members: Sequence[Member]) -> list[str]:
    return [
        set_of(CARDS, "ifname . ether_addr", [card(member) for member in members]),
        set_of(ADDRESSES, "ifname . ether_addr . ipv4_addr", [place(member) for member in members]),
    ]


def set_of(name: str, kind: str, elements: Sequence[str]) -> str:
    filled = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"set {name} {{ type {kind};{filled} }}"


def card(member: Member) -> str:
    return f'"{member.device}" . {member.mac}'


def place(member: Member) -> str:
    return f"{card(member)} . {member.address}"


def elements(verb: str, members: Sequence[Member]) -> str:
    """Commands that add VMs to the sets, or delete them."""
    if not members:
        return ""
    cards, places = (", ".join(map(one, members)) for one in (card, place))
    return (
        f"{verb} element bridge {TABLE} {CARDS} {{ {cards} }}\n"
        f"{verb} element bridge {TABLE} {ADDRESSES} {{ {places} }}\n"
    )


def bridge_chains(policy: Policy) -> list[tuple[str, str, Sequence[str]]]:
    guests = policy.guests
    return [
        ("spoofing", "prerouting priority -300", [f"iifname {guests} goto spoken"]),
        ("spoken", "", spoken(policy)),
        ("bridged", "forward priority 0", [f"iifname {guests} jump sent", f"oifname {guests} goto heard"]),
        ("sent", "", sent(policy)),
        ("heard", "", heard(policy)),
        ("told", "output priority 0", [f"oifname {guests} {rule}" for rule in told(policy)]),
    ]


def spoken(policy: Policy) -> list[str]:
    """What a VM's interface may send at all, whoever it is for. Without an entry in the sets: nothing."""
    rules = [
        f"iifname . ether saddr != @{CARDS} drop",
        # The rules below see what is in such a frame, not its tag.
        "ether type { 8021q, 8021ad } drop",
        f"iifname . arp saddr ether @{CARDS} iifname . ether saddr . arp saddr ip @{ADDRESSES} accept",
        # No server for addresses but ours.
        "udp sport 67 drop",
    ]
    if policy.dhcp:
        rules.append("ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept")
    return [*rules, f"iifname . ether saddr . ip saddr @{ADDRESSES} accept", "drop"]


def replies(policy: Policy) -> list[str]:
    """Of connections that may be, from port to port of the bridge."""
    return [TRACKED] if policy.tracked else list(UNTRACKED)


def sent(policy: Policy) -> list[str]:
    """From a VM to another port of the bridge."""
    apart = [
        f"oifname {policy.guests} drop",
        # By ARP about itself a VM tells the switches where it is now.
        f"iifname . ether saddr . arp daddr ip @{ADDRESSES} return",
        f"arp daddr ip {policy.vms} drop",
        f"ip daddr {policy.vms} drop",
    ]
    return [
        *(apart if policy.isolated else ()),
        "udp dport 67 drop",
        "ether type arp return",
        *(rule.replace("accept", "return") for rule in replies(policy)),
        *login(policy, "return"),
        f"ip daddr {policy.nodes} drop",
        f"ip daddr {MULTICAST} drop",
    ]


def login(policy: Policy, verdict: str) -> list[str]:
    """What VMs may use in the nodes' part."""
    nodes, rules = f"ip daddr {policy.nodes}", []
    if policy.login_port is not None:
        rules.append(f"{nodes} tcp dport {policy.login_port} {verdict}")
        rules.append(f"{nodes} icmp type echo-request {verdict}")
    if policy.plan.dns is not None and not policy.dns:
        rules += [f"ip daddr {policy.plan.dns} {kind} dport 53 {verdict}" for kind in ("tcp", "udp")]
    return rules


def heard(policy: Policy) -> list[str]:
    """From another port of the bridge to a VM."""
    return [
        FLOODED,
        *([f"arp saddr ip {policy.vms} drop"] if policy.isolated else ()),
        "ether type arp accept",
        "ether type != ip drop",
        "udp sport 67 drop",
        *among_vms(policy),
        *replies(policy),
        *from_nodes(policy),
        *(() if policy.tracked else datagrams(policy)),
        "drop",
    ]


def among_vms(policy: Policy) -> list[str]:
    """From VM to VM. The ports that nodes use are not for VMs."""
    if policy.isolated:
        return [f"ip saddr {policy.vms} drop"]
    opened = f"ip saddr {policy.vms} tcp dport {policy.ports} tcp flags & (syn | ack) == syn drop"
    return [opened, f"ip saddr {policy.vms} accept"]


def from_nodes(policy: Policy) -> list[str]:
    return [
        f"ip saddr {policy.nodes} tcp dport {policy.ports} accept",
        f"ip saddr {policy.nodes} icmp type echo-request accept",
    ]


def datagrams(policy: Policy) -> list[str]:
    """Which of them are replies cannot be seen without tracking: those from outside are let in."""
    rules = [f"ip saddr != {policy.plan.network} meta l4proto udp accept"]
    if policy.plan.dns is not None:
        rules.append(f"ip saddr {policy.plan.dns} udp sport 53 accept")
    return rules


def told(policy: Policy) -> list[str]:
    """From this node, or through it, to a VM. All but what VMs sent was judged in C{table ip}."""
    return ["ether type ip6 drop", FLOODED, *(rule for rule in among_vms(policy) if rule.endswith("drop"))]


def ip_chains(policy: Policy) -> list[tuple[str, str, Sequence[str]]]:
    found: list[tuple[str, str, Sequence[str]]] = [
        # Frames to a group that bridges keep to themselves (01:80:c2:00:00:0e) go around all hooks of the bridge; what
        # is in them comes here from the interface itself.
        ("node", "input priority 0", [f"{policy.unbridged} drop", f"ip saddr {policy.vms} goto served"]),
        ("served", "", served(policy)),
        ("routed", "forward priority 0", routed(policy)),
        ("leaving", "", leaving(policy)),
        # A node's address is one only on the bridge.
        ("arriving", "", [f'iifname != "{policy.bridge}" drop', *from_nodes(policy), "drop"]),
    ]
    if policy.nat_interface is not None:
        outside = f'oifname "{policy.nat_interface}" ip saddr {policy.vms} masquerade'
        found.append(("outside", "type nat hook postrouting priority 100; policy accept;", [outside]))
    return found


def ip6_chains(policy: Policy) -> list[tuple[str, str, Sequence[str]]]:
    """Frames that go around the hooks of the bridge, as above, must not make a VM the node's router."""
    return [("unbridged", "prerouting priority -300", [f"{policy.unbridged} drop"])]


def served(policy: Policy) -> list[str]:
    """From a VM, of whichever node, to an address of this node."""
    rules = [TRACKED]
    if policy.dhcp:
        rules.append(f'iifname "{policy.bridge}" udp dport 67 accept')
    if policy.dns:
        rules += [f'iifname "{policy.bridge}" {kind} dport 53 accept' for kind in ("tcp", "udp")]
    if policy.login_port is not None:
        rules += [f"tcp dport {policy.login_port} accept", "icmp type echo-request accept"]
    return [*rules, "drop"]


def routed(policy: Policy) -> list[str]:
    """Through this node."""
    return [
        *([f"ip saddr {policy.vms} ip daddr {policy.vms} drop"] if policy.isolated else ()),
        TRACKED,
        f"ip saddr {policy.vms} goto leaving",
        f"ip daddr {policy.vms} goto arriving",
    ]


def leaving(policy: Policy) -> list[str]:
    """From a VM, through this node."""
    rules = [*login(policy, "accept"), f"ip daddr {policy.nodes} drop", *among_others(policy)]
    rules.append(f'iifname "{policy.bridge}" oifname "{policy.bridge}" accept')
    if policy.nat_interface is not None:
        rules += [f"ip daddr {network} drop" for network in policy.nat_except]
        rules.append(f'iifname "{policy.bridge}" oifname "{policy.nat_interface}" accept')
    return [*rules, "drop"]


def among_others(policy: Policy) -> list[str]:
    return [] if policy.isolated else [f"ip daddr {policy.vms} tcp dport {policy.ports} drop"]
