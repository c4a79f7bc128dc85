"""L{qvd.client.dialback}: who is let in."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from qvd.client.dialback import DialBack, DisplayConnection, Owner, find_owner
from qvd.client.errors import ClientError, Exit

make_failure: Any = Failure
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0
   1: 0100007F:9C40 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0
   2: 0100007F:C350 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1001        0 3 1 0
   3: 0200007F:C351 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1002        0 4 1 0
"""


class Transport(StringTransport):
    """From some port."""

    def getPeer(self) -> IPv4Address:
        return self.peer

    def at(self, port: int) -> None:
        self.peer = IPv4Address("TCP", "127.0.0.1", port)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Taken note of by nobody."""


make_transport: Any = Transport
make_error: Any = CannotListenError


class Listener:
    def __init__(self, port: int) -> None:
        self.open = True
        self._address = IPv4Address("TCP", "127.0.0.1", port)

    def getHost(self) -> IPv4Address:
        return self._address

    def stopListening(self) -> None:
        self.open = False


class Reactor:
    """Gives a port that a test chose."""

    def __init__(self, port: int = 40000) -> None:
        self.listener = Listener(port)
        self.asked: list[tuple[int, str]] = []

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Any:
        self.asked.append((port, interface))
        return self.listener


def admit(dialback: DialBack, port: int = 50000) -> tuple[DisplayConnection, Any]:
    connection = dialback.buildProtocol(None)
    transport = make_transport()
    transport.at(port)
    make_connection: Any = connection.makeConnection
    make_connection(transport)
    return connection, transport


def listening(owner: Owner = lambda port, peer_port: os.getuid()) -> tuple[DialBack, Reactor, list[DisplayConnection]]:
    dialback, reactor = DialBack(owner), Reactor()
    arrived: list[DisplayConnection] = []
    dialback.arrived.addCallback(arrived.append)
    assert dialback.listen(reactor) == "localhost:36000"
    return dialback, reactor, arrived


@pytest.mark.parametrize(
    ("port", "peer_port", "owner"), [(50000, 40000, 1001), (40000, 50000, 1000), (50001, 40000, None), (1, 2, None)]
)
def test_owner(port: int, peer_port: int, owner: int | None) -> None:
    assert find_owner(TABLE, port, peer_port) == owner


def test_first_connection_is_let_in_and_the_door_closed() -> None:
    asked = []

    def owner(port: int, peer_port: int) -> int:
        asked.append((port, peer_port))
        return os.getuid()

    dialback, reactor, arrived = listening(owner)
    assert reactor.asked == [(0, "127.0.0.1")]
    connection, transport = admit(dialback)
    assert arrived == [connection]
    assert asked == [(50000, 40000)]
    assert not reactor.listener.open
    assert not transport.disconnected
    _, late = admit(dialback, 50001)
    assert late.disconnected


@pytest.mark.parametrize("owner", [None, os.getuid() + 1])
def test_stranger_is_sent_away_and_the_door_stays_open(owner: int | None) -> None:
    dialback, reactor, arrived = listening(lambda port, peer_port: owner)
    _, transport = admit(dialback)
    assert transport.disconnected
    assert arrived == []
    assert reactor.listener.open


def test_bytes_wait_until_somebody_takes_them() -> None:
    dialback, _, _ = listening()
    connection, transport = admit(dialback)
    assert transport.producerState == "paused"
    connection.dataReceived(b"early ")
    taken: list[bytes] = []
    connection.attach(taken.append, lambda reason: None)
    connection.dataReceived(b"late")
    assert b"".join(taken) == b"early late"
    assert transport.producerState == "producing"


def test_end_is_told_before_and_after() -> None:
    reason = make_failure(ConnectionDone())
    for early in (True, False):
        dialback, _, _ = listening()
        connection, _ = admit(dialback)
        ends: list[Failure] = []
        if early:
            connection.connectionLost(reason)
        connection.attach(lambda data: None, ends.append)
        if not early:
            connection.connectionLost(reason)
        assert ends == [reason]


def test_port_that_nxproxy_cannot_dial() -> None:
    reactor = Reactor(3999)
    with pytest.raises(ClientError) as raised:
        DialBack().listen(reactor)
    assert raised.value.exit is Exit.LOCAL
    assert not reactor.listener.open


def test_no_port() -> None:
    class Full(Reactor):
        def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Any:
            raise make_error(interface, port, OSError("full"))

    with pytest.raises(ClientError) as raised:
        DialBack().listen(Full())
    assert raised.value.exit is Exit.LOCAL
