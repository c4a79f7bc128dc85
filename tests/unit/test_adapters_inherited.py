"""Listening sockets that another process has opened."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory

from qvd.protocols.adapters.listening import listen_shared, listens_on
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, until


class Clients(ServerFactory):
    """Counts who comes."""

    noisy = False

    def __init__(self) -> None:
        self.count = 0

    def buildProtocol(self, addr: object) -> Protocol:
        self.count += 1
        return Protocol()


class Old:
    """A port that is open, and a queue that nobody looks at."""

    def __init__(self) -> None:
        self.clients = Clients()
        self.port: Any = listen_shared(self.reactor, "127.0.0.1", 0, self.clients)
        self.ports = [self.port]
        self.sockets: list[socket.socket] = []

    @property
    def reactor(self) -> Any:
        return reactor

    @property
    def number(self) -> int:
        return int(self.port.getHost().port)

    def dial(self, number: int | None = None) -> None:
        self.sockets.append(socket.create_connection(("127.0.0.1", number or self.number), 10))

    def adopt(self, port: int, address: str = "127.0.0.1") -> tuple[Any, Clients]:
        clients = Clients()
        made = listen_shared(self.reactor, address, port, clients, inherited=os.dup(self.port.fileno()))
        self.ports.append(made)
        return made, clients


@asynchronous_fixture
async def old() -> AsyncIterator[Old]:
    made = Old()
    yield made
    for each in made.sockets:
        each.close()
    for port in made.ports:
        await maybeDeferred(port.stopListening)


@asynchronous
async def test_who_waits_in_the_queue_is_served_by_the_next_owner(old: Old) -> None:
    number = old.number
    old.port.stopReading()
    old.dial()
    _, clients = old.adopt(number)
    # The end of the former owner's port is not the socket's.
    await maybeDeferred(old.ports.pop(0).stopListening)
    old.dial(number)
    await until(lambda: clients.count == 2)
    assert old.clients.count == 0


@asynchronous
async def test_another_port_in_the_settings_is_opened_instead(old: Old) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        wanted = int(free.getsockname()[1])
    made, clients = old.adopt(wanted)
    assert made.getHost().port == wanted
    old.dial(wanted)
    await until(lambda: clients.count == 1)


@pytest.mark.parametrize(
    ("bound", "wanted", "fits"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "", False),
        ("", "", True),
        ("", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "localhost", True),
    ],
)
def test_the_address_has_to_be_the_same(bound: str, wanted: str, fits: bool) -> None:
    with socket.create_server((bound, 0)) as made:
        number = made.getsockname()[1]
        assert listens_on(made, wanted, number) is fits
        assert listens_on(made, wanted, 0) is fits
        assert not listens_on(made, wanted, number + 1)
