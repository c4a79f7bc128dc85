"""The TLS listener and the relay, with real sockets: clients and guests are blocking sockets in threads."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from qvd.demo.tls import make_certificates
from qvd.model.errors import GuestError, SettingsError
from qvd.protocols.adapters.relay import EndedBy, Relay, RelayOutcome, connect_guest
from qvd.protocols.adapters.sockets import HIGH_WATER, READ_BUFFER
from qvd.protocols.adapters.tls import (
    TLSLimits,
    TLSListenerFactory,
    TLSTransport,
    listen_tls,
    make_server_context,
)

reactor: Any = _reactor
T = TypeVar("T")
PATIENCE = 20.0
BLOCK = bytes(range(256)) * 256
LIMITS = TLSLimits(handshake_seconds=PATIENCE, connections=100, connections_per_address=100)


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Straight(Protocol):
    """Relays as soon as there is TLS.

    @ivar began: fires with the relay.
    @ivar ended: fires with its outcome.
    """

    transport: TLSTransport

    def __init__(self, port: int) -> None:
        self.began: Deferred[Relay] = Deferred()
        self.ended: Deferred[RelayOutcome] = Deferred()
        self._port = port
        self._relay: Relay | None = None

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        Deferred.fromCoroutine(self._join()).chainDeferred(self.began)

    async def _join(self) -> Relay:
        guest = await connect_guest(reactor, "127.0.0.1", self._port)
        relay = self._relay = Relay(self.transport, guest, self.ended.callback)
        self.dataReceived = relay.dataReceived  # type: ignore[method-assign]
        relay.start()
        return relay

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._relay is not None:
            self._relay.connectionLost(reason)


class Listener:
    """A TLS port, its certificate, and what was logged."""

    def __init__(self, folder: Path) -> None:
        make_certificates(folder)
        self.folder = folder
        self.lines: list[str] = []
        self.protocols: list[Straight] = []
        self._port: Any = None
        self._factory: TLSListenerFactory | None = None

    def listen(self, build: Callable[[], Protocol] = Echo, limits: TLSLimits = LIMITS) -> int:
        inner = Factory.forProtocol(build)
        inner.noisy = False
        context = make_server_context(self.folder / "cert.pem", self.folder / "key.pem")
        self._factory = TLSListenerFactory(context, inner, limits)
        self._port = listen_tls(reactor, "127.0.0.1", 0, self._factory)
        return int(self._port.getHost().port)

    def relay_to(self, guest: int) -> int:
        def build() -> Protocol:
            self.protocols.append(Straight(guest))
            return self.protocols[-1]

        return self.listen(build)

    async def stop(self) -> None:
        if self._port is not None and self._factory is not None:
            await self._port.stopListening()
            self._factory.close_all()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "tls")

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("qvd.") and event["log_level"] > LogLevel.debug:
            made.lines.append(formatEvent(event).partition(": ")[2])

    globalLogPublisher.addObserver(observe)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def guest() -> Iterator[socket.socket]:
    """Where an nxagent would listen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        yield listening


def in_thread(work: Callable[..., T], *arguments: object) -> Deferred[T]:
    return deferToThread(work, *arguments).addTimeout(PATIENCE, reactor)


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def dial_tls(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(dial(port), server_hostname="localhost", session=session)


def accept(listening: socket.socket) -> socket.socket:
    connected, _ = listening.accept()
    connected.settimeout(PATIENCE)
    return connected


def read_all(connected: socket.socket) -> bytes:
    parts = []
    while part := connected.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_exactly(connected: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connected.recv(min(65536, size - len(data)))
        assert part, f"cut after {len(data)} bytes"
        data += part
    return bytes(data)


def talk_plainly(port: int, data: bytes) -> bytes:
    """Send something that is no TLS, and read what comes until the end."""
    with dial(port) as connected:
        connected.sendall(data)
        try:
            return read_all(connected)
        except ConnectionResetError:
            return b""


def echo_once(port: int, context: ssl.SSLContext) -> str | None:
    with dial_tls(port, context) as client:
        client.sendall(b"hello")
        assert read_exactly(client, 5) == b"hello"
        return client.version()


# The relay


@pytest_twisted.ensureDeferred
async def test_bulk_both_ways(listener: Listener, guest: socket.socket) -> None:
    """Both directions at once, every byte in its place."""
    data = BLOCK * 64

    def serve() -> bytes:
        with accept(guest) as connected:
            sending = in_background(connected.sendall, data)
            taken = read_exactly(connected, len(data))
            sending.result(PATIENCE)
            return taken

    def ask(port: int) -> bytes:
        with dial_tls(port, listener.context()) as client:
            client.sendall(data)
            return read_exactly(client, len(data))

    serving = in_thread(serve)
    # The client sends all before it reads: only queues and back-pressure on the way keep that from a deadlock.
    taken = await in_thread(ask, listener.relay_to(port_of(guest)))
    assert taken == data
    assert await serving == data
    outcome = await listener.protocols[0].ended
    assert (outcome.from_client, outcome.from_guest) == (len(data), len(data))


def in_background(work: Callable[..., T], *arguments: object) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except OSError as error:
            future.set_exception(error)

    reactor.callFromThread(lambda: reactor.callInThread(run))
    return future


@pytest_twisted.ensureDeferred
async def test_slow_client_holds_the_guest_back(listener: Listener, guest: socket.socket) -> None:
    """What a client does not take stays in the guest, not in our memory; later it gets all of it."""
    size, stalled = 64 << 20, Event()

    def serve() -> int:
        with accept(guest) as connected:
            connected.settimeout(0.5)
            left, held = size, 0
            while left:
                try:
                    left -= connected.send(BLOCK[: min(left, len(BLOCK))])
                except TimeoutError:
                    if not stalled.is_set():
                        held = size - left
                        stalled.set()
            return held

    def ask(port: int) -> tuple[int, int]:
        with dial_tls(port, listener.context()) as client:
            assert stalled.wait(PATIENCE)
            queued = listener.protocols[0].transport._unsent_size
            return queued, len(read_all(client))

    serving = in_thread(serve)
    queued, taken = await in_thread(ask, listener.relay_to(port_of(guest)))
    assert taken == size
    assert 0 < queued < HIGH_WATER + len(READ_BUFFER)
    assert await serving < size


@pytest_twisted.ensureDeferred
async def test_last_bytes_of_the_guest(listener: Listener, guest: socket.socket) -> None:
    """They reach a slow client that goes on sending after the guest has closed, and it sees an orderly end."""
    data, closed = BLOCK * 48, Event()

    def serve() -> None:
        with accept(guest) as connected:
            assert read_exactly(connected, 2) == b"go"
            connected.sendall(data)
            connected.shutdown(socket.SHUT_WR)
            closed.set()
            try:
                read_all(connected)
            except ConnectionResetError:  # the client's late bytes came to a closed socket
                pass

    def ask(port: int) -> bytes:
        with dial_tls(port, listener.context()) as client:
            client.sendall(b"go")
            taken = read_exactly(client, len(BLOCK))
            client.sendall(BLOCK)
            taken += read_exactly(client, len(data) - 2 * len(BLOCK))
            assert closed.wait(PATIENCE)
            client.sendall(b"anybody there?")
            return taken + read_all(client)

    serving = in_thread(serve)
    assert await in_thread(ask, listener.relay_to(port_of(guest))) == data
    await serving
    assert (await listener.protocols[0].ended).ended_by is EndedBy.GUEST


@pytest_twisted.ensureDeferred
async def test_last_bytes_of_the_client(listener: Listener, guest: socket.socket) -> None:
    """They reach a guest that reads only when the client has long gone."""
    data, gone = BLOCK * 48, Event()

    def serve() -> bytes:
        with accept(guest) as connected:
            connected.sendall(b"!")
            head = read_exactly(connected, 10 * len(BLOCK))
            assert gone.wait(PATIENCE)
            return head + read_all(connected)

    def ask(port: int) -> None:
        with dial_tls(port, listener.context()) as client:
            # With unread bytes, even TLS tickets, its own kernel would throw away what it has sent.
            assert client.recv(1) == b"!"
            client.sendall(data)
        gone.set()

    serving = in_thread(serve)
    await in_thread(ask, listener.relay_to(port_of(guest)))
    assert await serving == data
    outcome = await listener.protocols[0].ended
    assert (outcome.ended_by, outcome.from_client) == (EndedBy.CLIENT, len(data))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "bare end"])
async def test_answer_to_a_client_that_has_ended(listener: Listener, guest: socket.socket, notify: bool) -> None:
    """It comes whole, though the guest began with it only when it saw the client's end."""
    data = BLOCK * 48

    def serve() -> bytes:
        with accept(guest) as connected:
            asked = read_all(connected)
            connected.sendall(data)
            return asked

    def ask(port: int) -> bytes:
        with dial(port) as connected:
            client = Memory(connected, listener.context())
            client.send(b"last request")
            client.end(notify)
            return client.read_all()

    serving = in_thread(serve)
    assert await in_thread(ask, listener.relay_to(port_of(guest))) == data
    assert await serving == b"last request"
    outcome = await listener.protocols[0].ended
    assert (outcome.ended_by, outcome.from_guest) == (EndedBy.CLIENT, len(data))


@pytest_twisted.ensureDeferred
async def test_answer_to_a_guest_that_has_ended(listener: Listener, guest: socket.socket) -> None:
    """A client may go on sending after the guest's end, and the guest gets it."""
    data = BLOCK * 48

    def serve() -> bytes:
        with accept(guest) as connected:
            connected.sendall(b"last request")
            connected.shutdown(socket.SHUT_WR)
            return read_all(connected)

    def ask(port: int) -> bytes:
        with dial(port) as connected:
            client = Memory(connected, listener.context())
            asked = client.read_all()
            client.send(data)
            client.end(True)
            return asked

    serving = in_thread(serve)
    assert await in_thread(ask, listener.relay_to(port_of(guest))) == b"last request"
    assert await serving == data
    outcome = await listener.protocols[0].ended
    assert (outcome.ended_by, outcome.from_client) == (EndedBy.GUEST, len(data))


class Memory:
    """A TLS client that can end one direction, which L{ssl.SSLSocket} cannot."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = connected
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._until_done(self._tls.do_handshake)

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def end(self, notify: bool) -> None:
        """Say that this was all: in TLS or in TCP only."""
        if notify:
            with suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._flush()
        self._socket.shutdown(socket.SHUT_WR)

    def read_all(self) -> bytes:
        """Until the other side's close_notify."""
        parts = []
        with suppress(ssl.SSLZeroReturnError):
            while part := self._until_done(lambda: self._tls.read(65536)):
                parts.append(part)
        return b"".join(parts)

    def _until_done(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._socket.recv(65536):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._socket.sendall(data)


@pytest_twisted.ensureDeferred
async def test_abort(listener: Listener, guest: socket.socket) -> None:
    """Both ends are gone at once, though neither takes anything."""

    def serve() -> None:
        with accept(guest) as connected:
            try:
                while True:
                    connected.sendall(BLOCK)
            except (ConnectionResetError, BrokenPipeError):
                return

    serving = in_thread(serve)
    client = await in_thread(dial_tls, listener.relay_to(port_of(guest)), listener.context())
    relay = await listener.protocols[0].began
    relay.abort("A newer client has the VM")
    outcome = await listener.protocols[0].ended
    assert (outcome.ended_by, outcome.reason) == (EndedBy.ABORT, "A newer client has the VM")
    await serving
    client.close()


@pytest_twisted.ensureDeferred
async def test_guest_that_listens_a_little_later() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        reactor.callLater(0.2, late.listen)
        leg = await connect_guest(reactor, "127.0.0.1", port_of(late), retry_seconds=PATIENCE)
        late.settimeout(PATIENCE)
        accept(late).close()
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.accept()
        lost: Deferred[None] = Deferred()
        leg.lost = lambda reason: lost.callback(None)
        leg.abort()
        await lost


@pytest_twisted.ensureDeferred
async def test_guest_that_never_listens() -> None:
    with socket.socket() as never:
        never.bind(("127.0.0.1", 0))
        with pytest.raises(GuestError, match="Connection refused"):
            await connect_guest(reactor, "127.0.0.1", port_of(never), retry_seconds=0.1)


@pytest_twisted.ensureDeferred
async def test_guest_address_is_a_number() -> None:
    """A name would block the reactor, or lead to two connections."""
    with pytest.raises(GuestError, match="not an IP address"):
        await connect_guest(reactor, "localhost", 4100)


# Clients of all kinds


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("version", "cipher"), [(ssl.TLSVersion.TLSv1_2, "DEFAULT"), (ssl.TLSVersion.TLSv1_3, "DEFAULT")]
)
async def test_versions(listener: Listener, version: ssl.TLSVersion, cipher: str) -> None:
    context = listener.context()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(cipher)
    assert await in_thread(echo_once, listener.listen(), context) == version.name.replace("_", ".")
    assert listener.lines == []


@pytest_twisted.ensureDeferred
async def test_tls_1_1_refused(listener: Listener) -> None:
    context = listener.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await in_thread(echo_once, listener.listen(), context)
    assert listener.lines == ["no TLS: unsupported protocol"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_resumption(listener: Listener, version: ssl.TLSVersion) -> None:
    context = listener.context()
    context.minimum_version = context.maximum_version = version

    def twice(port: int) -> tuple[bool | None, bool | None]:
        with dial_tls(port, context) as first:
            first.sendall(b"x")
            first.recv(1)  # the tickets of TLS 1.3 come with the first bytes
            session, fresh = first.session, first.session_reused
        with dial_tls(port, context, session) as second:
            second.sendall(b"x")
            second.recv(1)
            return fresh, second.session_reused

    assert await in_thread(twice, listener.listen()) == (False, True)


@pytest_twisted.ensureDeferred
async def test_plain_http(listener: Listener) -> None:
    answer = await in_thread(talk_plainly, listener.listen(), b"GET /qvd/ping HTTP/1.1\r\n\r\n" + bytes(100_000))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"use https.\n")
    assert listener.lines == ["no TLS: plain HTTP"]


@pytest_twisted.ensureDeferred
async def test_garbage(listener: Listener) -> None:
    """Refused in one line, and the next client does not notice."""
    port = listener.listen()
    await in_thread(talk_plainly, port, b"\x00garbage\xff" * 1000)
    assert len(listener.lines) == 1 and listener.lines[0].startswith("no TLS: ")
    assert await in_thread(echo_once, port, listener.context()) == "TLSv1.3"


@pytest_twisted.ensureDeferred
async def test_mute_client(listener: Listener) -> None:
    port = listener.listen(limits=TLSLimits(0.2, 100, 100))
    assert await in_thread(talk_plainly, port, b"\x16\x03") == b""
    assert listener.lines == ["no TLS: not done in 0.2 s"]


@pytest_twisted.ensureDeferred
async def test_probe(listener: Listener) -> None:
    """A load balancer's look whether the port is open is not worth a line."""
    port = listener.listen()
    (await in_thread(dial, port)).close()
    assert await in_thread(echo_once, port, listener.context()) == "TLSv1.3"
    assert listener.lines == []


@pytest_twisted.ensureDeferred
async def test_too_many_from_one_address(listener: Listener) -> None:
    port = listener.listen(limits=TLSLimits(PATIENCE, 100, 1))
    first = await in_thread(dial_tls, port, listener.context())
    assert await in_thread(talk_plainly, port, b"\x16\x03") == b""
    assert listener.lines == ["refused: too many from there"]
    first.close()


# The certificate's files


def test_key_that_others_read(listener: Listener) -> None:
    key = listener.folder / "key.pem"
    key.chmod(0o640)
    with pytest.raises(SettingsError, match=r"key\.pem: others than its owner"):
        make_server_context(listener.folder / "cert.pem", key)


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_missing_file(listener: Listener, missing: str) -> None:
    (listener.folder / missing).unlink()
    with pytest.raises(SettingsError, match=missing):
        make_server_context(listener.folder / "cert.pem", listener.folder / "key.pem")


def test_key_of_another_certificate(listener: Listener, tmp_path: Path) -> None:
    make_certificates(tmp_path / "other")
    with pytest.raises(SettingsError, match="not the private key of"):
        make_server_context(listener.folder / "cert.pem", tmp_path / "other" / "key.pem")


def test_key_that_is_none(listener: Listener) -> None:
    key = listener.folder / "key.pem"
    key.write_text("nothing of the kind")
    with pytest.raises(SettingsError, match="not the private key of"):
        make_server_context(listener.folder / "cert.pem", key)
