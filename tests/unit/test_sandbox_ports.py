"""Ports of guests on a shared host."""

from __future__ import annotations

import socket

import pytest

from qvd.hkd.hypervisor.sandbox.ports import AGENT_PORTS, DISPLAYS, GuestPorts, choose_ports, is_free
from qvd.model.errors import TransientError


def first(count: int) -> int:
    return 0


def last(count: int) -> int:
    return count - 1


def test_begins_where_chance_says() -> None:
    assert choose_ports((), lambda port: True, first) == GuestPorts(AGENT_PORTS[0], DISPLAYS[0])
    assert choose_ports((), lambda port: True, last) == GuestPorts(AGENT_PORTS[-1], DISPLAYS[-1])


def test_comes_round() -> None:
    taken = GuestPorts(AGENT_PORTS[-1], DISPLAYS[-1])
    assert choose_ports([taken], lambda port: True, last) == GuestPorts(AGENT_PORTS[0], DISPLAYS[0])


def test_not_what_other_vms_have() -> None:
    """Even where they do not listen yet."""
    taken = [GuestPorts(AGENT_PORTS[number], DISPLAYS[number]) for number in range(3)]
    assert choose_ports(taken, lambda port: True, first) == GuestPorts(AGENT_PORTS[3], DISPLAYS[3])


@pytest.mark.parametrize("busy", [4000 + DISPLAYS[0], 11000 + DISPLAYS[0]])
def test_both_ports_of_a_display(busy: int) -> None:
    assert choose_ports((), lambda port: port != busy, first).display == DISPLAYS[1]


def test_x_port() -> None:
    assert GuestPorts(20000, 1234).x_port == 5234


def test_none_left() -> None:
    with pytest.raises(TransientError, match="No X display is free"):
        choose_ports((), lambda port: False, first)
    with pytest.raises(TransientError, match="No port for the guest's agent"):
        choose_ports((), lambda port: port not in AGENT_PORTS, first)


def test_probe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
        port = server.getsockname()[1]
    assert is_free(port)
