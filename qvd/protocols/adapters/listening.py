# -*- test-case-name: tests.unit.test_adapters_inherited -*-
"""Ports whose sockets go from one process to the next."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.tcp import Port

from qvd.protocols.adapters.sockets import ISocketReactor


class SharedPort(Port):
    """A port whose socket another process may have, too: its end is not the socket's."""

    _shouldShutdown = False


def listen(
    kind: type[SharedPort],
    reactor: ISocketReactor,
    address: str,
    port: int,
    factory: IProtocolFactory,
    backlog: int,
    inherited: int | None,
) -> IListeningPort:
    """Listen.

    @param kind: class of the port.
    @param address: C{*} for all, C{::} for all with IPv6.
    @param inherited: a socket that listens already; it is closed here, and a copy of it is used where it has this
        address and port.
    @raise twisted.internet.error.CannotListenError: the port is taken, or may not be used.
    """
    interface = "" if address == "*" else address
    listening: Any = None
    if inherited is not None:
        with socket.socket(fileno=inherited) as found:
            if listens_on(found, interface, port):
                found.setblocking(False)
                listening = kind._fromListeningDescriptor(  # type: ignore[no-untyped-call]
                    reactor, found.fileno(), found.family, factory
                )
    if listening is None:
        listening = kind(port, factory, backlog, interface, reactor)
    listening.startListening()
    return listening  # type: ignore[no-any-return]


def listen_shared(
    reactor: ISocketReactor, address: str, port: int, factory: IProtocolFactory, inherited: int | None = None
) -> IListeningPort:
    """L{listen} over Twisted's own transports."""
    return listen(SharedPort, reactor, address, port, factory, 50, inherited)


def listens_on(found: socket.socket, interface: str, port: int) -> bool:
    """Whether it is what the settings want: they may have been changed since it was opened."""
    host, number = found.getsockname()[:2]
    wanted = interface or "0.0.0.0"
    # A name is not looked up: it has not changed, most likely.
    named = not (isIPAddress(wanted) or isIPv6Address(wanted))
    return port in (0, number) and (named or host == wanted)
