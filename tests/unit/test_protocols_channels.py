"""Names of channels, and what is in a payload."""

from __future__ import annotations

import pytest

from qvd.model.ids import HostId, VMId
from qvd.protocols.channels import host_changed, parse_vm_changed, session_on_host, vm_changed, vm_on_host


def test_names() -> None:
    assert vm_on_host(HostId(3)) == "qvd_vm_on_host_3"
    assert session_on_host(HostId(3)) == "qvd_session_on_host_3"
    assert host_changed(HostId(3)) == "qvd_host_changed_3"
    assert vm_changed() == "qvd_vm_changed"


def test_payload() -> None:
    assert parse_vm_changed("12") == VMId(12)


@pytest.mark.parametrize("payload", ["", "x", "-1", "1 2", "٣", "1" * 40])
def test_payload_that_names_no_vm(payload: str) -> None:
    assert parse_vm_changed(payload) is None
