# -*- test-case-name: tests.unit.test_protocols_channels -*-
"""
Channels of PostgreSQL's NOTIFY. Each is a bell: who hears it reads the rows again.

The statements that ring are in C{qvd/db} and in the triggers of C{qvd/db/schema}.
"""

from __future__ import annotations

import re

from qvd.model.ids import HostId, VMId

_VM_ID = re.compile(r"[0-9]{1,10}", re.ASCII)


def vm_on_host(host_id: HostId) -> str:
    """There is an order for a VM of the host, or one of its VMs was changed by somebody else."""
    return f"qvd_vm_on_host_{host_id}"


def session_on_host(host_id: HostId) -> str:
    """A session of the host has been superseded, its VM is lost, or an administrator wants it to end."""
    return f"qvd_session_on_host_{host_id}"


def host_changed(host_id: HostId) -> str:
    """The host was blocked or is to be drained, or neither any more."""
    return f"qvd_host_changed_{host_id}"


def vm_changed() -> str:
    """A VM's row has changed; the payload is its id."""
    return "qvd_vm_changed"


def expiry_on_host(host_id: HostId) -> str:
    """The dates of a VM of the host have changed, or what they wait for."""
    return f"qvd_expiry_on_host_{host_id}"


def messages_on_host(host_id: HostId) -> str:
    """There is a message to the user of a VM of the host."""
    return f"qvd_messages_on_host_{host_id}"


def images_changed() -> str:
    """A disk image has come, has gone, or has another state or path."""
    return "qvd_images_changed"


def parse_vm_changed(payload: str) -> VMId | None:
    """The VM; L{None} when the payload names none, so that it may be any."""
    return VMId(int(payload)) if _VM_ID.fullmatch(payload) else None
