# -*- test-case-name: tests.unit.test_hkd_notify -*-
"""Tells the service manager that the daemon is ready: the datagram protocol of C{sd_notify(3)}."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environment: Mapping[str, str], message: str) -> bool:
    """Send C{message} (such as C{READY=1}) to C{$NOTIFY_SOCKET}; False where there is none."""
    path = environment.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        try:
            channel.sendto(message.encode(), address)
        except OSError:
            return False
    return True
