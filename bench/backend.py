"""
Stands in for the guests: sends, takes or echoes as it is told.

A connection begins with a letter and eight bytes of count: C{D} sends that many bytes, C{U} takes that many and
answers with one, C{E} echoes for ever. Prints its port.
"""

from __future__ import annotations

import select
import socket
import struct
import threading

ORDER = struct.Struct("!cQ")
CHUNK = 256 * 1024
PATIENCE = 60.0


def send_many(connection: socket.socket, count: int) -> None:
    block = memoryview(bytes(range(256)) * (CHUNK // 256))
    while count > 0:
        count -= connection.send(block[:count])


def take_many(connection: socket.socket, count: int) -> None:
    block = memoryview(bytearray(CHUNK))
    while count > 0:
        got = connection.recv_into(block)
        if got == 0:
            return
        count -= got
    connection.sendall(b"!")


def serve_bulk(connection: socket.socket, letter: bytes, count: int) -> None:
    """One transfer, in a thread of its own. A client that goes early is no news."""
    with connection:
        connection.settimeout(PATIENCE)
        try:
            (send_many if letter == b"D" else take_many)(connection, count)
        except OSError:
            pass


class Backend:
    """One loop for all that wait or echo."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        self._echoing: set[int] = set()

    def run(self) -> None:
        print(self._listener.getsockname()[1], flush=True)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._serve(descriptor)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._poll.register(connection, select.EPOLLIN)

    def _serve(self, descriptor: int) -> None:
        connection = self._connections[descriptor]
        try:
            if descriptor in self._echoing:
                data = connection.recv(65536)
                connection.sendall(data)
            else:
                data = connection.recv(ORDER.size)
        except OSError:
            data = b""
        if not data:
            self._forget(descriptor).close()
        elif descriptor not in self._echoing:
            self._order(descriptor, data)

    def _order(self, descriptor: int, data: bytes) -> None:
        letter, count = ORDER.unpack(data)
        if letter == b"E":
            self._echoing.add(descriptor)
            return
        connection = self._forget(descriptor)
        threading.Thread(target=serve_bulk, args=(connection, letter, count), daemon=True).start()

    def _forget(self, descriptor: int) -> socket.socket:
        self._poll.unregister(descriptor)
        self._echoing.discard(descriptor)
        return self._connections.pop(descriptor)


if __name__ == "__main__":
    Backend().run()
