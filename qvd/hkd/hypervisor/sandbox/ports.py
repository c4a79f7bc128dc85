# -*- test-case-name: tests.unit.test_sandbox_ports -*-
"""Ports on 127.0.0.1 for guests that share the host's network."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection, Iterator
from itertools import chain

from attrs import frozen

from qvd.model.errors import TransientError

DISPLAYS = range(1000, 4000)
AGENT_PORTS = range(20000, 30000)
"""Below the ports that Linux gives to outgoing connections."""
NX_BASE, SLAVE_BASE = 4000, 11000
"""nxagent listens on these plus its display number: for the client, and for the client's side channels."""


@frozen
class GuestPorts:
    """What one guest listens on."""

    vma_port: int
    display: int

    @property
    def x_port(self) -> int:
        return NX_BASE + self.display


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: ports of connections that have just ended are free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(
    taken: Collection[GuestPorts],
    free: Callable[[int], bool] = is_free,
    chance: Callable[[int], int] = secrets.randbelow,
) -> GuestPorts:
    """Ports that nobody listens on and no other of our VMs was given.

    The search begins anywhere: another daemon on the host may have given away ports that its guests do not listen on
    yet.

    @param chance: a whole number from 0 up to, not including, its argument.
    @raise TransientError: there are none.
    """
    agents = {ports.vma_port for ports in taken}
    displays = {ports.display for ports in taken}
    for display in rotated(DISPLAYS, chance):
        if display not in displays and free(NX_BASE + display) and free(SLAVE_BASE + display):
            break
    else:
        raise TransientError("No X display is free on this node")
    for port in rotated(AGENT_PORTS, chance):
        if port not in agents and free(port):
            return GuestPorts(port, display)
    raise TransientError("No port for the guest's agent is free on this node")


def rotated(numbers: range, chance: Callable[[int], int]) -> Iterator[int]:
    start = chance(len(numbers))
    return chain(numbers[start:], numbers[:start])
