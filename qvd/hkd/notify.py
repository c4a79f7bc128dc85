# -*- test-case-name: tests.unit.test_hkd_notify -*-
"""Tells the service manager that the daemon is ready, and well: the datagram protocol of C{sd_notify(3)}."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall


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


def pulse_seconds(environment: Mapping[str, str]) -> float | None:
    """Half of what the service manager waits for a sign of life; L{None}: it does not wait for any.

    C{$WATCHDOG_PID} is not asked: it names the first daemon, and one that took over is to give these signs, too.
    """
    text = environment.get("WATCHDOG_USEC", "")
    microseconds = int(text) if text.isascii() and text.isdigit() else 0
    return microseconds / 2_000_000 or None


class Pulse:
    """Says every so often that the reactor turns. A process that no longer says so is killed and started anew.

    @param seconds: between two signs; L{None}: nobody asked for them.
    @param tell: sends a message to the service manager.
    """

    def __init__(self, clock: IReactorTime, seconds: float | None, tell: Callable[[str], object]) -> None:
        self._seconds = seconds
        self._beat = LoopingCall(tell, "WATCHDOG=1")
        self._beat.clock = clock

    def start(self) -> None:
        """Now, and from now on."""
        if self._seconds is not None:
            self._beat.start(self._seconds)

    def stop(self) -> None:
        """No more. No effect when it does not run."""
        if self._beat.running:
            self._beat.stop()
