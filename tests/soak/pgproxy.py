"""
A proxy in front of PostgreSQL that knows the messages it passes on, so that a node can be hit at an exact one.

It listens on a UNIX socket of its own and dials the server's. Threads, not the reactor: tests wait for real processes.
Messages: C{https://www.postgresql.org/docs/current/protocol-message-formats.html}.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from attrs import frozen

SOCKET = ".s.PGSQL.5432"
QUERY, READY, NOTIFICATION = b"Q", b"Z", b"A"
LONGEST = 1 << 24


class Side(Enum):
    """Of a statement: it has not reached the server, or the server has carried it out and the node has no answer."""

    BEFORE = "before"
    AFTER = "after"


class Bells(Enum):
    """What becomes of notifications."""

    PASS = 1
    DROP = 0
    DOUBLE = 2


@frozen
class Break:
    """Where to act.

    @ivar counts: whether a statement is one of those that are counted.
    @ivar number: of the statement, from 1.
    @ivar act: called there, in a thread of the proxy; then the connection is cut.
    """

    counts: Callable[[str], bool]
    number: int
    side: Side
    act: Callable[[], None]


def messages(data: bytearray, first: bool) -> Iterator[tuple[bytes, bytes]]:
    """Take whole messages from the front of C{data}: their type and their bytes, the type included.

    @param first: a client's first message has no type.
    """
    while len(data) >= 5:
        start = 0 if first else 1
        (length,) = struct.unpack_from("!I", data, start)
        assert length <= LONGEST, "not a message of PostgreSQL's"
        if len(data) < start + length:
            return
        message = bytes(data[: start + length])
        del data[: start + length]
        yield (b"" if first else message[:1]), message
        first = False


class _Connection:
    """One client's: two sockets, and a thread for each direction."""

    def __init__(self, proxy: PgProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._held: list[bytes] | None = None
        self._break: Break | None = None
        self.in_work = False
        """A statement that counts has been sent in the present transaction."""

    def start(self) -> None:
        for work in (self._forth, self._back):
            threading.Thread(target=work, daemon=True).start()

    def cut(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._proxy.forget(self)

    def _read(self, source: socket.socket, first: bool) -> Iterator[tuple[bytes, bytes]]:
        data = bytearray()
        while True:
            piece = source.recv(65536)
            if not piece:
                return
            data += piece
            for kind, message in messages(data, first):
                first = False
                yield kind, message

    def _forth(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for kind, message in self._read(self._client, True):
                self._proxy.wait_open()
                if kind == QUERY:
                    self._break = self._proxy.told(self, message[5:-1].decode(errors="replace"))
                    if self._break is not None and self._break.side is Side.BEFORE:
                        self._break.act()
                        break
                    if self._break is not None:
                        self._held = []
                self._server.sendall(message)
        self.cut()

    def _back(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for kind, message in self._read(self._server, False):
                if self._held is not None:
                    if kind == READY:
                        assert self._break is not None
                        self._break.act()
                        break
                    continue
                self._proxy.wait_open()
                times = self._proxy.bells.value if kind == NOTIFICATION else 1
                self._client.sendall(message * times)
        self.cut()


class PgProxy:
    """Between one node and the server.

    @param folder: of its socket.
    @param server: folder of the server's; with C{port} in its name.
    @ivar bells: what becomes of notifications.
    @ivar refusing: while true, new connections are closed at once.
    """

    def __init__(self, folder: Path, server: Path, port: int = 5432) -> None:
        self.folder = folder
        self._target = server / f".s.PGSQL.{port}"
        self.bells = Bells.PASS
        self.refusing = False
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._break: Break | None = None
        self._counted = 0
        self._listening = socket.socket(socket.AF_UNIX)

    def start(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._listening.bind(str(self.folder / SOCKET))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self.refusing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._open.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                if self.refusing:
                    raise ConnectionRefusedError
                server.connect(str(self._target))
            except OSError:
                client.close()
                server.close()
                continue
            connection = _Connection(self, client, server)
            with self._lock:
                self._connections.add(connection)
            connection.start()

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()

    def partition(self) -> None:
        """No way to the server, and everybody can see it."""
        self.refusing = True
        self.cut()

    def mute(self) -> None:
        """No way to the server, and nobody can see it: bytes are held back, connections stay."""
        self._open.clear()

    def heal(self) -> None:
        """Undo L{partition} and L{mute}: what was held back goes on its way."""
        self.refusing = False
        self._open.set()

    def wait_open(self) -> None:
        self._open.wait()

    def set_break(self, point: Break) -> None:
        """Act once, at that statement."""
        with self._lock:
            self._break, self._counted = point, 0

    @property
    def counted(self) -> int:
        """How many statements have counted since L{set_break}."""
        return self._counted

    @property
    def broken(self) -> bool:
        """The break has come. Else it is taken back."""
        with self._lock:
            there, self._break = self._break, None
            return there is None

    def told(self, connection: _Connection, statement: str) -> Break | None:
        """A statement is about to be passed on."""
        with self._lock:
            if self._break is None or not self._counts(self._break, connection, statement):
                return None
            self._counted += 1
            if self._counted < self._break.number:
                return None
            found, self._break = self._break, None
            return found

    def _counts(self, point: Break, connection: _Connection, statement: str) -> bool:
        """The end of a transaction counts when something in it did."""
        if statement == "COMMIT":
            counts, connection.in_work = connection.in_work, False
            return counts
        if statement.startswith("BEGIN"):
            connection.in_work = False
            return False
        connection.in_work = connection.in_work or point.counts(statement)
        return point.counts(statement)
