"""Events over a real connection: each as it happens, and an end that is noticed on either side."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.server import Site

from qvd.admin.problems import Problem
from qvd.admin.site import make_app
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, until


class Client(Protocol):
    """Sends one request and keeps what comes."""

    def __init__(self, method: bytes = b"GET") -> None:
        self.method = method
        self.got = b""
        self.gone = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.method + b" /api/v1/events?topics=users HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True


def served(api: ApiWorld) -> tuple[Any, int]:
    """The API's operations on a port."""
    site: Any = Site(make_app(api.endpoints, api.dispatcher).resource())  # type: ignore[no-untyped-call]
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    return port, port.getHost().port


async def connected(number: int, method: bytes = b"GET") -> Client:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
    made: Deferred[Client] = connectProtocol(endpoint, Client(method))  # type: ignore[no-untyped-call]
    return await made


@asynchronous
async def test_over_http(api: ApiWorld) -> None:
    listening = Listening(api)
    api.gate.principal = api.anna
    port, number = served(api)
    try:
        staying, leaving = await connected(number), await connected(number)
        await until(lambda: b"hello" in staying.got and b"hello" in leaving.got)
        head = staying.got.partition(b"\r\n\r\n")[0].lower()
        assert b"content-type: text/event-stream" in head and b"cache-control: no-store" in head
        api.ask("INSERT INTO users (tenant_id, login) VALUES (%s, 'new')", api.acme)
        await until(lambda: b"event: added" in staying.got and b'"new"' in staying.got)
        assert leaving.transport is not None
        leaving.transport.loseConnection()
        await until(lambda: len(listening.feed.streams) == 1, "the client's leaving")
        listening.now["anna"] = Problem("session-expired", "It was revoked")
        await until(lambda: not listening.feed.streams, "the revocation")
        # The end of a chunked body.
        await until(lambda: staying.got.endswith(b"0\r\n\r\n"))
        assert b"event: revoked" in staying.got
    finally:
        for client in (staying, leaving):
            assert client.transport is not None
            client.transport.loseConnection()
        await until(lambda: staying.gone and leaving.gone)
        await port.stopListening()


@asynchronous
async def test_head_is_no_stream(api: ApiWorld) -> None:
    listening = Listening(api)
    api.gate.principal = api.anna
    port, number = served(api)
    client = await connected(number, b"HEAD")
    await until(lambda: b"\r\n\r\n" in client.got)
    assert b"text/event-stream" in client.got and listening.feed.streams == set()
    assert client.transport is not None
    client.transport.loseConnection()
    await until(lambda: client.gone)
    await port.stopListening()


@asynchronous
async def test_a_reader_that_takes_nothing_holds_nobody_up(api: ApiWorld) -> None:
    listening = Listening(api)
    api.gate.principal = api.anna
    port, number = served(api)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        slow.connect_ex(("127.0.0.1", number))
        await until(lambda: writable(slow))
        slow.send(b"GET /api/v1/events?topics=users HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: len(listening.feed.streams) == 1)
        [stream] = listening.feed.streams
        fast = await connected(number)
        await until(lambda: b"hello" in fast.got)
        filler = "x" * 2000
        rounds = 0
        while not stream._lost:
            rounds += 1
            api.ask(
                "INSERT INTO users (tenant_id, login, description) SELECT %s, 'u' || %s || '-' || n, %s"
                " FROM generate_series(1, 400) n",
                *(api.acme, rounds, filler),
            )
            await listening.settled()
            assert rounds < 30, "the bound was never reached"
        assert stream._size == 0 and stream._waiting == []
        await until(lambda: fast.got.count(b"event: added") == 400 * rounds)
        got = b""
        while b"event: resync" not in got:
            got += await more(slow)
    assert fast.transport is not None
    fast.transport.loseConnection()
    await until(lambda: fast.gone and not listening.feed.streams)
    await port.stopListening()


def writable(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


async def more(connection: socket.socket) -> bytes:
    """What has come."""
    found: list[bytes] = []

    def read() -> bool:
        try:
            found.append(connection.recv(1 << 16))
        except BlockingIOError:
            return False
        return True

    await until(read, "more of the stream")
    return found[-1]
