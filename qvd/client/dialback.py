# -*- test-case-name: tests.unit.test_client_dialback -*-
"""
Where nxproxy dials in: a port on the loopback interface that lets one connection of this user in.

Any local user could dial it, and whoever is first has the desktop. So the kernel is asked whose the other end is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from qvd.client.errors import ClientError, Exit

LOOPBACK = "127.0.0.1"
PORT_BASE = 4000
"""nxproxy turns C{localhost:M} into this plus M."""
TCP_TABLE = Path("/proc/net/tcp")

Owner = Callable[[int, int], int | None]


def find_owner(table: str, port: int, peer_port: int) -> int | None:
    """The user id of the socket on C{port} of the loopback interface that is connected to C{peer_port}.

    @param table: as in C{/proc/net/tcp}.
    """
    local, remote = f"0100007F:{port:04X}", f"0100007F:{peer_port:04X}"
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == local and fields[2] == remote:
            return int(fields[7])
    return None


def socket_owner(port: int, peer_port: int) -> int | None:
    """Ask the kernel; L{None} when it does not say."""
    try:
        return find_owner(TCP_TABLE.read_text(), port, peer_port)
    except OSError:
        return None


class DisplayConnection(Protocol):
    """nxproxy's connection. It is held back until it is attached."""

    transport: Any

    def __init__(self, arrived: Callable[[DisplayConnection], bool]) -> None:
        self._arrived = arrived
        self._early = bytearray()
        self._lost: Failure | None = None
        self._receiver_lost: Callable[[Failure], None] | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.pauseProducing()
        if not self._arrived(self):
            self.transport.abortConnection()

    def attach(self, receive: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """Give all bytes, and the end, to somebody else."""
        if self._early:
            receive(bytes(self._early))
        self.dataReceived = receive  # type: ignore[method-assign, assignment]
        self._receiver_lost = lost
        if self._lost is not None:
            lost(self._lost)
        else:
            self.transport.resumeProducing()

    def abort(self) -> None:
        """Cut it."""
        if self._lost is None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self._early += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        if self._receiver_lost is not None:
            self._receiver_lost(reason)


class DialBack(Factory):
    """Listens for one connection.

    @ivar arrived: fires with it.
    """

    noisy = False

    def __init__(self, owner: Owner = socket_owner) -> None:
        self.arrived: Deferred[DisplayConnection] = Deferred()
        self._owner = owner
        self._port: Any = None
        self._number = 0

    def listen(self, reactor: Any) -> str:
        """Begin; return what nxproxy must be told to dial.

        @raise ClientError: no port can be had.
        """
        try:
            self._port = reactor.listenTCP(0, self, backlog=1, interface=LOOPBACK)
        except CannotListenError as error:
            raise ClientError(Exit.LOCAL, f"No port for nxproxy: {error}") from None
        self._number = self._port.getHost().port
        if self._number <= PORT_BASE:
            self.close()
            raise ClientError(Exit.LOCAL, f"The system gave port {self._number}, which nxproxy cannot dial")
        return f"localhost:{self._number - PORT_BASE}"

    def close(self) -> None:
        """Let nobody in any more."""
        if self._port is not None:
            self._port.stopListening()
            self._port = None

    def buildProtocol(self, addr: IAddress | None) -> DisplayConnection:
        return DisplayConnection(self._admit)

    def _admit(self, connection: DisplayConnection) -> bool:
        peer = connection.transport.getPeer().port
        if self.arrived.called or self._owner(peer, self._number) != os.getuid():
            return False
        self.close()
        self.arrived.callback(connection)
        return True
