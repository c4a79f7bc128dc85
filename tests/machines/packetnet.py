"""
A VM network in a private world: this node's bridge, network namespaces in the place of VMs and other machines.

Sockets belong to the namespace in which they are made, whoever uses them, so all of them are held by the test.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias, TypeVar

from attrs import frozen

from qvd.hkd.network.rules import Member, Policy, render
from qvd.model.network import parse_plan
from tests.machines.frames import REQUEST, TCP, Card, arp, tcp

T = TypeVar("T")
Seen: TypeAlias = Callable[[bytes], bool]
"""Whether a frame is the one that is looked for."""
BRIDGE, CABLE, PREFIX = "qvdnet", "wan0", "qvd"
PLAN = parse_plan("10.88.0.0/16", "10.88.1.0")
VMA, NX, LOGIN, SSH = 3030, 4100, 8443, 22
POLICY = Policy(PLAN, BRIDGE, PREFIX, (str(VMA), "4100-4199"))
PATIENCE = 10.0
"""Seconds for what is to arrive. What is not to arrive is not waited for."""
MARKER_PORTS = 50000
NEW_NETWORK = 0x40000000
"""C{CLONE_NEWNET}."""


def run(*words: str, text: str | None = None) -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@frozen
class Place:
    """A machine.

    @ivar namespace: L{None}: the one of the test, which is this node.
    @ivar device: its interface.
    """

    namespace: str | None
    device: str
    card: Card

    @property
    def mac(self) -> str:
        return self.card.mac

    @property
    def address(self) -> str:
        return self.card.address

    def ip(self, *words: str) -> str:
        return run("ip", *(() if self.namespace is None else ("-n", self.namespace)), *words)

    def do(self, work: Callable[[], T]) -> T:
        """Do something there, in a thread that ends."""
        results: list[T | BaseException] = []

        def there() -> None:
            try:
                if self.namespace is not None:
                    enter(self.namespace)
                results.append(work())
            except BaseException as error:  # noqa: BLE001  the caller gets it
                results.append(error)

        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def listen(self, port: int) -> socket.socket:
        listener = self.do(lambda: socket.create_server(("0.0.0.0", port)))
        listener.settimeout(PATIENCE)
        return listener

    def dial(self, target: str, port: int) -> socket.socket:
        return self.do(lambda: socket.create_connection((target, port), PATIENCE))

    def wire(self) -> Wire:
        """Its interface, to send whatever one likes and see all that comes."""
        made = self.do(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        made.bind((self.device, 3))
        made.settimeout(PATIENCE)
        return Wire(made)


def enter(namespace: str) -> None:
    """Have this thread live in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


@frozen
class Wire:
    """An interface, seen from its machine."""

    _socket: socket.socket

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def close(self) -> None:
        self._socket.close()

    def until(self, last: Seen) -> list[bytes]:
        """All that has come, up to a certain frame; the test fails when that does not come."""
        found: list[bytes] = []
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            frame, (_, _, kind, *_) = self._socket.recvfrom(65536)
            if kind == socket.PACKET_OUTGOING:
                continue
            found.append(frame)
            if last(frame):
                return found
        raise AssertionError("it did not come")

    def drop_all(self) -> None:
        """Forget what has come."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(65536)
        self._socket.settimeout(PATIENCE)


NODE = Place(None, BRIDGE, Card("02:51:ff:00:00:01", "10.88.0.1"))
PEER = Place("peer", "eth0", Card("02:51:ff:00:00:02", "10.88.0.2"))
FIRST = Place("vm101", "eth0", Card("02:51:00:00:00:65", "10.88.1.101"))
SECOND = Place("vm102", "eth0", Card("02:51:00:00:00:66", "10.88.1.102"))
FAR = Place("vm103", "eth0", Card("02:51:00:00:00:67", "10.88.1.103"))
OUTSIDE = Place("outside", "eth0", Card("02:51:ff:00:00:03", "192.0.2.2"))
NODE_RAW = IPv4Address(NODE.address).packed
CABLE_CARD = Card("02:51:ff:00:00:04", "192.0.2.1")
ENDS = {FIRST: "qvd101", SECOND: "qvd102", PEER: "up2", FAR: "up3", OUTSIDE: CABLE}
"""This node's ends of their cables. The far VM is one of another node: it comes by an uplink."""
MEMBERS = [Member(ENDS[place], place.mac, place.address) for place in (FIRST, SECOND)]


def plug(place: Place) -> None:
    """Make a machine, with a cable to this node."""
    end = ENDS[place]
    run("ip", "netns", "add", str(place.namespace))
    place.ip("link", "set", "lo", "up")
    NODE.ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", str(place.namespace))
    place.ip("link", "set", "eth0", "address", place.mac, "up")
    prefix = 24 if place is OUTSIDE else PLAN.network.prefixlen
    place.ip("addr", "add", f"{place.address}/{prefix}", "dev", "eth0")
    place.ip("route", "add", "default", "via", CABLE_CARD.address if place is OUTSIDE else NODE.address)
    NODE.ip("link", "set", end, *(() if place is OUTSIDE else ("master", BRIDGE)), "up")


class Network:
    """The whole of it.

    @ivar wires: of all machines but this node.
    """

    def __init__(self) -> None:
        NODE.ip("link", "add", BRIDGE, "address", NODE.mac, "type", "bridge")
        NODE.ip("addr", "add", f"{NODE.address}/{PLAN.network.prefixlen}", "dev", BRIDGE)
        NODE.ip("link", "set", BRIDGE, "up")
        for place in ENDS:
            plug(place)
        NODE.ip("link", "set", CABLE, "address", CABLE_CARD.mac)
        NODE.ip("addr", "add", f"{CABLE_CARD.address}/24", "dev", CABLE)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for place in ENDS:
            # The first packet that is sent on to a machine does not wait for its answer.
            self.know(place)
        self._sent = 0
        self.wires = {place: place.wire() for place in (NODE, *ENDS)}
        # What is sent from one processor arrives in that order, whatever way it takes.
        self._processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._processors)})

    def close(self) -> None:
        os.sched_setaffinity(0, self._processors)
        self.unfilter()
        for wire in self.wires.values():
            wire.close()
        for place in ENDS:
            run("ip", "netns", "del", str(place.namespace))
        NODE.ip("link", "del", BRIDGE)

    def know(self, place: Place) -> None:
        """Have this node know its MAC for good."""
        device = CABLE if place is OUTSIDE else BRIDGE
        NODE.ip("neigh", "replace", place.address, "lladdr", place.mac, "nud", "permanent", "dev", device)

    def learns_all(self, does: bool) -> None:
        """Whether the bridge learns from frames, too, that are for bridges only. One that L{Bridge} makes does not."""
        NODE.ip("link", "set", BRIDGE, "type", "bridge", "no_linklocal_learn", str(int(not does)))

    def bridged_ip(self, passes: bool) -> None:
        """Whether frames from port to port of the bridge pass C{table ip} as well."""
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text(str(int(passes)))

    def filter(self, policy: Policy, members: Iterable[Member] = MEMBERS) -> None:
        run("nft", "-f", "-", text=render(policy, members))

    def unfilter(self) -> None:
        run("nft", "-f", "-", text="flush ruleset\n")

    def forget(self) -> None:
        """What the bridge has learned, and frames that came."""
        Path(f"/sys/class/net/{BRIDGE}/bridge/flush").write_text("1")
        for wire in self.wires.values():
            wire.drop_all()

    def arrives(self, source: Place, frame: bytes, target: Place, arrived: Seen | None = None) -> bool:
        """Whether a frame comes through. Another one that is always let through is sent after it, on a way as long,
        and waited for.

        @param arrived: what is to arrive, where that is not the very frame.
        """
        self._sent += 1
        witness, later, came = marker(target, self._sent)
        self.wires[target].drop_all()
        self.wires[source].send(frame)
        self.wires[witness].send(later)
        return any((arrived or frame.__eq__)(each) for each in self.wires[target].until(came))

    def answers(self, source: Place, frame: bytes, port: int) -> bool:
        """Whether this node answers a frame with a TCP segment from that port."""
        self.wires[source].send(frame)
        self.wires[source].send(arp(REQUEST, source.card, NODE.address))
        came = self.wires[source].until(lambda found: found[12:14] == b"\x08\x06" and found[28:32] == NODE_RAW)
        return any(map(tcp_from(NODE.address, port), came))


def marker(target: Place, number: int) -> tuple[Place, bytes, Seen]:
    """Who sends which frame that always comes through, and how it is known there. Each number has its own."""
    port = MARKER_PORTS + number % 10000
    if target in (FIRST, SECOND):
        frame = tcp(PEER.card, target.card, VMA, from_port=port)
        return PEER, frame, frame.__eq__
    if target == OUTSIDE:
        via_node = Card(NODE.mac, OUTSIDE.address)
        return PEER, tcp(PEER.card, via_node, 80, from_port=port), tcp_from(PEER.address, port)
    frame = arp(REQUEST, SECOND.card, f"10.88.0.{number % 200 + 50}")
    return SECOND, frame, frame.__eq__


def tcp_from(address: str, port: int) -> Seen:
    """Knows TCP segments by their source."""
    raw, ports = IPv4Address(address).packed, port.to_bytes(2, "big")
    return lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == TCP and frame[26:30] + frame[34:36] == raw + ports
