"""Which addresses may be called."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from qvd.model.outbound import is_allowed

REFUSED = """
    127.0.0.1 127.9.9.9 0.0.0.0 0.1.2.3 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200
    192.0.2.1 198.18.0.1 203.0.113.5 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
    ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1
    64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a00:1:: 2001:db8::1
    2001:0:4136:e378:8000:63bf:80ff:fffe
""".split()


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_allowed(address: str) -> None:
    assert is_allowed(address)


def test_networks_of_ones_own() -> None:
    own = [ip_network("10.1.0.0/16"), ip_network("fd00::/16")]
    assert is_allowed("10.1.2.3", own) and is_allowed("fd00::5", own)
    assert not is_allowed("10.2.0.1", own) and not is_allowed("127.0.0.1", own)
    assert is_allowed("::ffff:10.1.2.3", own)
