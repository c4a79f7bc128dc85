"""Bytes on a connection to the daemon, as no well-behaved client sends them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.admin.server import Server


def connect(server: Server) -> ssl.SSLSocket:
    """A connection with TLS. Blocks, so only beside the reactor."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    plain = socket.create_connection(("localhost", server.port), 30)
    return context.wrap_socket(plain, server_hostname="localhost")


def exchange(server: Server, pieces: Iterable[bytes]) -> Deferred[bytes]:
    """Send pieces one after the other, and read until the server ends the connection."""

    def work() -> bytes:
        with connect(server) as line:
            answer = b""
            try:
                for piece in pieces:
                    line.sendall(piece)
                while data := line.recv(65536):
                    answer += data
            except OSError:  # it was ended while there was more to say
                pass
            return answer

    return deferToThread(work)


def hang_up(server: Server, data: bytes) -> Deferred[None]:
    """Send, and do not wait for the answer."""

    def work() -> None:
        with connect(server) as line:
            line.sendall(data)

    return deferToThread(work)
