"""
The clients: blocking or polled sockets with the interpreter's own TLS, so that they cost little beside the server.

Each function is bounded by C{PATIENCE} on every wait.
"""

from __future__ import annotations

import select
import socket
import ssl
from pathlib import Path
from time import monotonic

from attrs import frozen

from bench.backend import ORDER
from bench.children import BenchError

PATIENCE = 20.0
CHUNK = 256 * 1024


class Dialer:
    """Makes TLS connections to one port."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca_file))

    def dial(self) -> ssl.SSLSocket:
        """A connection after its handshake."""
        plain = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(plain, server_hostname="localhost")

    def order(self, letter: bytes, count: int = 0) -> ssl.SSLSocket:
        """A connection on which the backend has been told what to do."""
        connection = self.dial()
        connection.sendall(ORDER.pack(letter, count))
        return connection


@frozen
class Transfer:
    """What a bulk transfer moved."""

    size: int
    seconds: float

    @property
    def mb_per_s(self) -> float:
        return self.size / self.seconds / 1e6


def download(dialer: Dialer, seconds: float) -> Transfer:
    """Take bytes for about so long."""
    block = memoryview(bytearray(CHUNK))
    with dialer.order(b"D", 1 << 40) as connection:
        started, size = monotonic(), 0
        while (elapsed := monotonic() - started) < seconds:
            got = connection.recv_into(block)
            if got == 0:
                raise BenchError("the download was cut")
            size += got
    return Transfer(size, elapsed)


def upload(dialer: Dialer, size: int) -> Transfer:
    """Send so many bytes, until the backend has them all."""
    block = memoryview(bytes(CHUNK))
    with dialer.order(b"U", size) as connection:
        started, left = monotonic(), size
        while left:
            left -= connection.send(block[:left])
        if connection.recv(1) != b"!":
            raise BenchError("the upload was cut")
        return Transfer(size, monotonic() - started)


def open_echoes(dialer: Dialer, count: int) -> list[ssl.SSLSocket]:
    """Connections through which the backend has echoed once."""
    connections = [dialer.order(b"E") for _ in range(count)]
    for connection in connections:
        connection.sendall(b"?")
    for connection in connections:
        if connection.recv(1) != b"?":
            raise BenchError("no echo")
    return connections


def ping_pong(connections: list[ssl.SSLSocket], payload: bytes, seconds: float) -> list[float]:
    """All connections at once, each one sending again as soon as its echo is complete.

    @return: seconds of each round trip.
    """
    waiting = {connection.fileno(): Ping(connection, payload) for connection in connections}
    poll = select.epoll()
    for descriptor, ping in waiting.items():
        poll.register(descriptor, select.EPOLLIN)
        ping.send()
    times: list[float] = []
    until = monotonic() + seconds
    while monotonic() < until:
        events = poll.poll(PATIENCE)
        if not events:
            raise BenchError("no echo")
        for descriptor, _ in events:
            taken = waiting[descriptor].receive()
            if taken is not None:
                times.append(taken)
                waiting[descriptor].send()
    poll.close()
    return times


class Ping:
    """One connection of a ping-pong."""

    def __init__(self, connection: ssl.SSLSocket, payload: bytes) -> None:
        self._connection = connection
        self._payload = payload
        self._missing = 0
        self._sent_at = 0.0
        connection.setblocking(False)

    def send(self) -> None:
        self._missing = len(self._payload)
        self._sent_at = monotonic()
        self._connection.sendall(self._payload)

    def receive(self) -> float | None:
        """The time of the round trip, when the echo is complete."""
        try:
            got = len(self._connection.recv(65536))
        except ssl.SSLWantReadError:
            return None
        if got == 0:
            raise BenchError("the echo was cut")
        self._missing -= got
        return monotonic() - self._sent_at if self._missing == 0 else None
