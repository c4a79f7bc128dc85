"""Ethernet frames of the packet tests, as bytes."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

BROADCAST = "ff:ff:ff:ff:ff:ff"
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
SYN, ACK = 0x02, 0x10
REQUEST, REPLY = 1, 2
ECHO_REQUEST, ECHO_REPLY = 8, 0
ALL_NODES = "33:33:00:00:00:01"


@frozen
class Card:
    """Who sends, or is sent to."""

    mac: str
    address: str


def raw_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def summed(header: bytes, at: int, data: bytes) -> bytes:
    """A header whose checksum at C{at} is that of C{data}."""
    return header[:at] + struct.pack("!H", checksum(data)) + header[at + 2 :]


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return raw_mac(target) + raw_mac(source) + struct.pack("!H", kind) + payload


def vlan(frame: bytes, number: int, kind: int) -> bytes:
    """The same, tagged."""
    return frame[:12] + struct.pack("!HH", kind, number) + frame[12:]


def arp(operation: int, says: Card, about: str, source: str | None = None, target: str = BROADCAST) -> bytes:
    """@param about: address that is asked for, or told.
    @param source: of the frame; L{None}: the same as in the message."""
    asked = raw_mac(target) if operation == REPLY else bytes(6)
    message = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    message += raw_mac(says.mac) + IPv4Address(says.address).packed + asked + IPv4Address(about).packed
    return ethernet(source or says.mac, target, ARP, message)


def ipv4(source: Card, target: Card, protocol: int, payload: bytes) -> bytes:
    pair = IPv4Address(source.address).packed + IPv4Address(target.address).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0) + pair
    return ethernet(source.mac, target.mac, IPV4, summed(header, 10, header) + payload)


def transport(source: Card, target: Card, protocol: int, header: bytes, at: int) -> bytes:
    """A datagram or segment without data."""
    pseudo = IPv4Address(source.address).packed + IPv4Address(target.address).packed
    pseudo += struct.pack("!BBH", 0, protocol, len(header))
    return ipv4(source, target, protocol, summed(header, at, pseudo + header))


def tcp(source: Card, target: Card, port: int, flags: int = SYN, from_port: int = 40000) -> bytes:
    header = struct.pack("!HHIIBBHHH", from_port, port, 1000, 0, 5 << 4, flags, 1024, 0, 0)
    return transport(source, target, TCP, header, 16)


def udp(source: Card, target: Card, port: int, from_port: int = 40000, data: bytes = b"qvd!") -> bytes:
    header = struct.pack("!HHHH", from_port, port, 8 + len(data), 0)
    return transport(source, target, UDP, header + data, 6)


def echo(source: Card, target: Card, kind: int = ECHO_REQUEST, number: int = 1) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, 77, number)
    return ipv4(source, target, ICMP, summed(message, 2, message))


def ipv6(mac: str, target_mac: str, target: str, message: bytes) -> bytes:
    """ICMPv6 from the link-local address C{fe80::1}."""
    pair = IPv6Address("fe80::1").packed + IPv6Address(target).packed
    pseudo = pair + struct.pack("!II", len(message), ICMPV6)
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 255) + pair
    return ethernet(mac, target_mac, IPV6, header + summed(message, 2, pseudo + message))


def router_advertisement(mac: str, target_mac: str = ALL_NODES) -> bytes:
    return ipv6(mac, target_mac, "ff02::1", struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0))


def echo6(mac: str, target_mac: str) -> bytes:
    return ipv6(mac, target_mac, "fe80::2", struct.pack("!BBHHH", 128, 0, 0, 77, 1))


def discover(mac: str) -> bytes:
    """DHCPDISCOVER."""
    message = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 0x5156440A, 0, 0x8000) + raw_mac(mac) + bytes(10 + 192)
    message += bytes.fromhex("63825363350101ff")
    return udp(Card(mac, "0.0.0.0"), Card(BROADCAST, "255.255.255.255"), 67, 68, message)


def offer(server: Card) -> bytes:
    """DHCPOFFER of somebody who should make none."""
    message = struct.pack("!BBBBIHH16x", 2, 1, 6, 0, 0x5156440A, 0, 0x8000) + bytes(16 + 192)
    message += bytes.fromhex("63825363350102ff")
    return udp(server, Card(BROADCAST, "255.255.255.255"), 68, 67, message)
