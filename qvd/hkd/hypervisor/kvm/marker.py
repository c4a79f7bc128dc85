# -*- test-case-name: tests.unit.test_kvm_state -*-
"""What the agent in a virtual machine is told of itself, when it asks."""

from __future__ import annotations

from qvd.hkd.hypervisor.kvm.state import KvmState
from qvd.protocols.guestchannel import encode_marker

VMA_PORT = 3030
DISPLAY = 100
HOMES = "homes"
NX_BASE = 4000
"""nxagent listens on this plus its display number."""


def marker_line(state: KvmState) -> bytes:
    """The answer to the agent. It listens on all of the machine's addresses: it may ask before it has its own."""
    return encode_marker(
        {
            "driver": "kvm",
            "vm_id": state.vm_id,
            "secret": state.guest.secret.reveal(),
            "address": "",
            "vma_port": state.guest.vma_port,
            "display": state.guest.x_port - NX_BASE,
            "login": state.login,
            "home": f"/home/{state.login}",
            "home_disk": HOMES if state.home_disk else None,
        }
    )
