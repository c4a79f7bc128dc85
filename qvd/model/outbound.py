# -*- test-case-name: tests.unit.test_model_outbound -*-
"""
Which addresses the service may be made to call by somebody else's wish: those of the public Internet, and no others,
so that nobody reaches through it what is behind it (server-side request forgery).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Of addresses that carry an IPv4 address: where it stands. RFC 6052, RFC 3056.
NAT64 = IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


def is_allowed(text: str, allowed: Iterable[Network] = ()) -> bool:
    """@param allowed: networks of one's own that may be called nevertheless.
    @raise ValueError: it is no address.
    """
    address = embedded(ip_address(text.partition("%")[0]))
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address in LOCAL_NAT64:
        return False
    # Cloud metadata (169.254.169.254, fd00:ec2::254, 100.100.100.200) is link-local, unique local or shared space.
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
