"""The server's requests: bodies that are streamed, and bodies that are too long, over real connections."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Server as Socket
from twisted.internet.utils import getProcessValue
from twisted.python.failure import Failure

from qvd.admin.api import all_endpoints
from qvd.admin.site import BASE, make_app
from qvd.admin.streaming import LARGEST, ApiSite, streamed_by
from tests.admin.imageworld import DISK, SUM, ImageWorld, images
from tests.admin.sender import checksum
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, pause, until

__all__ = ["images"]
ROOT = Path(__file__).resolve().parents[2]


class Client(Protocol):
    """A connection that says what a test says."""

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True

    def say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, header and body of the next answer."""
        await until(lambda: b"\r\n\r\n" in self.heard, "the head of the answer")
        head, _, rest = self.heard.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(lines[0].split()[1])
        if status in (100, 204, 304):
            self.heard = rest
            return status, headers, b""
        if "content-length" in headers:
            size = int(headers["content-length"])
            await until(lambda: len(self.heard) - len(head) - 4 >= size, "the body of the answer")
            body, self.heard = self.heard[len(head) + 4 :][:size], self.heard[len(head) + 4 + size :]
            return status, headers, body
        await until(lambda: self.heard.endswith(b"0\r\n\r\n"), "the end of the answer")
        body = self.heard[len(head) + 4 :].split(b"\r\n")[1]
        self.heard = b""
        return status, headers, body


@define
class Server:
    """The API, served to everybody as anna."""

    images: ImageWorld
    site: ApiSite
    port: Any
    clients: list[Client] = field(factory=list)

    async def connect(self) -> Client:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.clients.append(client)
        found: Client = client
        return found

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}{BASE}"


@asynchronous_fixture
async def server(images: ImageWorld) -> AsyncIterator[Server]:
    api = images.api
    api.gate.principal = api.anna
    endpoints = all_endpoints()
    site = ApiSite(make_app(endpoints, api.dispatcher).resource(), streamed_by(endpoints, BASE))
    listen: Any = reactor
    made = Server(images, site, listen.listenTCP(0, site, interface="127.0.0.1"))
    yield made
    for client in made.clients:
        client.transport.abortConnection()  # type: ignore[union-attr]
    await made.port.stopListening()
    await until(lambda: images.api.services.image_work.idle, "the end of the work")
    await pause(0.05)


def patch(upload: int, offset: int, length: int | None, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"PATCH {BASE}/uploads/{upload} HTTP/1.1\r\nHost: x\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: application/offset+octet-stream\r\n{size}\r\n{more}\r\n"
    ).encode()


def post(length: int | None, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {BASE}/osfs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{size}\r\n{more}\r\n".encode()


@asynchronous
async def test_uploads_on_one_connection(server: Server) -> None:
    image, upload = await server.images.upload()
    client = await server.connect()
    client.say(patch(upload, 0, 4000) + DISK[:1000])
    await pause(0.05)
    client.say(DISK[1000:4000])
    status, headers, _ = await client.answer()
    assert status == 204 and headers["upload-offset"] == "4000"
    # What comes in chunks, whose length is not known before; and the connection is still good.
    client.say(patch(upload, 4000, None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DISK) - 4000, DISK[4000:]))
    assert (await client.answer())[0] == 204
    assert (await server.images.settled(image))["checksum"] == SUM
    client.say(f"GET {BASE}/images/{image} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    status, _, body = await client.answer()
    assert status == 200 and json.loads(body)["state"] == "ready"


@asynchronous
async def test_connection_that_ends(server: Server) -> None:
    _, upload = await server.images.upload()
    client = await server.connect()
    client.say(patch(upload, 0, len(DISK)) + DISK[:5000])
    await until(lambda: server.images.files(), "the file")
    client.transport.abortConnection()  # type: ignore[union-attr]
    await until(lambda: server.images.api.services.image_work.idle, "the end of the request")
    await until(lambda: len(server.images.api.trail()) == 2, "the audit row")
    assert await server.images.offset(upload) == 5000
    assert server.images.api.trail()[-1]["problem"] == "upload-failed"


@asynchronous
async def test_refused_before_the_body_is_read(server: Server) -> None:
    _, upload = await server.images.upload()
    client = await server.connect()
    client.say(patch(upload, 7, 1000, "Expect: 100-continue\r\n"))
    status, headers, body = await client.answer()
    assert status == 409 and headers["upload-offset"] == "0" and headers["connection"] == "close"
    assert json.loads(body)["type"] == "/problems/offset-mismatch"
    client.say(b"x" * 1000)
    await until(lambda: client.closed, "the end of the connection")
    assert b"100 Continue" not in client.heard


@asynchronous
async def test_100_continue(server: Server) -> None:
    _, upload = await server.images.upload()
    client = await server.connect()
    client.say(patch(upload, 0, 100, "Expect: 100-continue\r\n"))
    assert (await client.answer())[0] == 100
    client.say(DISK[:100])
    assert (await client.answer())[0] == 204


@asynchronous
async def test_too_long_elsewhere(server: Server) -> None:
    for head in (post(LARGEST + 1), post(10**12, "Expect: 100-continue\r\n")):
        client = await server.connect()
        client.say(head)
        status, headers, body = await client.answer()
        assert status == 413 and headers["content-type"] == "application/problem+json"
        assert json.loads(body)["code"] == 9013
        await until(lambda c=client: c.closed, "the end of the connection")  # type: ignore[misc]
        assert b"100 Continue" not in client.heard
    assert server.images.api.ask("SELECT * FROM osfs WHERE name = 'x'") == []


@asynchronous
async def test_too_long_without_saying_so(server: Server) -> None:
    client = await server.connect()
    client.say(post(None))
    for _ in range(LARGEST // 65536 + 1):
        client.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert (await client.answer())[0] == 413
    await until(lambda: client.closed, "the end of the connection")


@asynchronous
async def test_of_the_right_length(server: Server) -> None:
    client = await server.connect()
    body = json.dumps({"name": "x", "description": "d"}).encode()
    for text in (body, body.ljust(LARGEST)):
        client.say(post(len(text)) + text)
        status = (await client.answer())[0]
        assert status == (201 if text is body else 409)
    assert not client.closed


@asynchronous
async def test_a_slow_disk_holds_the_client_back(server: Server, monkeypatch: Any) -> None:
    """What waits in memory is bounded, however much is sent."""
    size = 32 * 1024**2
    source = {"type": "upload", "name": "a", "size": size, "checksum": "0" * 64}
    made = await server.images.make(source)
    gate: Deferred[None] = Deferred()
    work = server.images.api.services.image_work
    run = work.run

    def slow(function: Any, *args: Any, **kwargs: Any) -> Any:
        if function.__name__ == "append":
            return gate.addCallback(lambda _: run(function, *args, **kwargs))
        return run(function, *args, **kwargs)

    monkeypatch.setattr(type(work), "run", staticmethod(slow))
    client = await server.connect()
    client.say(patch(made.body["upload"]["id"], 0, size) + b"x" * size)
    await pause(0.5)
    # The server's end of the connection is not read from.
    assert not [each for each in readers() if isinstance(each, Socket)]
    gate.callback(None)
    assert (await client.answer())[0] == 204


def readers() -> Sequence[Any]:
    """Sockets that the reactor reads from."""
    which: Any = reactor
    found: Sequence[Any] = which.getReaders()
    return found


@asynchronous
async def test_memory_does_not_grow_with_the_file(server: Server) -> None:
    """QVD_UPLOAD_MIB=2048 is the size that was promised; so much does not go through at each commit."""
    size = int(os.environ.get("QVD_UPLOAD_MIB", "64")) * 1024**2
    source = {"type": "upload", "name": "a", "size": size, "checksum": checksum(size)}
    made = await server.images.make(source)
    image, upload = made.body["image"]["id"], made.body["upload"]["id"]
    process, peak = psutil.Process(), 0
    before = process.memory_info().rss

    def look() -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss - before)

    looking: Any = LoopingCall(look)
    looking.start(0.02)
    started = reactor.seconds()
    arguments = ["-m", "tests.admin.sender", server.address, str(upload), str(size), "5"]
    running: Any = getProcessValue
    status = await running(sys.executable, arguments, env=dict(os.environ), path=str(ROOT))
    sent = reactor.seconds() - started
    assert status == 0
    await until(lambda: server.images.row(image)["state"] != "verifying", "the verification")
    looking.stop()
    row = server.images.row(image)
    assert (row["state"], row["checksum"], row["size"]) == ("ready", source["checksum"], size), row["message"]
    # One that came while the one before was still being written was refused, and cut as well.
    lost = [entry for entry in server.images.api.trail() if entry["problem"] in ("upload-failed", "conflict")]
    assert len(lost) >= 5
    # For whoever runs it with -s.
    sys.stdout.write(f"{size >> 20} MiB in {sent:.1f} s, cut five times: {peak / 2**20:.1f} MiB of memory at most\n")
    assert peak < 50 * 1024**2
