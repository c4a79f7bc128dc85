"""What drivers read out of a VM's definition."""

from __future__ import annotations

import pytest

from qvd.hkd.hypervisor.vmspec import host_name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("desk", "desk"),
        ("My Desk", "my-desk"),
        ("--a__b--", "a-b"),
        ("x" * 70, "x" * 63),
        ("\u00fc\u00fc", "desktop"),
        ("", "desktop"),
        ("x" * 62 + "-y", "x" * 62),
        ("a\nb", "a-b"),
    ],
)
def test_host_name(name: str, wanted: str) -> None:
    assert host_name(name) == wanted
