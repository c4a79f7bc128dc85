# -*- test-case-name: tests.unit.test_adapters_tls -*-
"""
TLS from the first byte, on the server's side: a listener and its transport.

OpenSSL reads and writes the socket itself. Through memory buffers, as in L{twisted.protocols.tls}, each chunk is
copied three times more, and a connection keeps the buffers: measured, that is twice the CPU and five times the memory.
"""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from pathlib import Path

from attrs import frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.model.errors import SettingsError
from qvd.protocols.adapters.listening import SharedPort, listen
from qvd.protocols.adapters.sockets import (
    RECEIVING,
    ISocketReactor,
    Phase,
    SocketName,
    SocketTransport,
    failure_of,
)

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: what each client of the last ten years has, and nothing without forward secrecy."""
RECORD = 16384
"""Most bytes in a TLS record. A read of so many leaves nothing inside OpenSSL, where epoll would not see it."""
RECORDS_PER_READ = 16
PARTIAL_WRITE = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and does not name: one record per call."""
CLOSED = (SSL.SysCallError, SSL.ZeroReturnError)
PLAIN_HTTP_REASONS = ("http request", "https proxy request")
PLAIN_HTTP = b"This port speaks TLS: use https.\n"
PLAIN_HTTP_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "
    + str(len(PLAIN_HTTP)).encode()
    + b"\r\n\r\n"
    + PLAIN_HTTP
)


def make_server_context(cert_file: str | Path, key_file: str | Path) -> SSL.Context:
    """TLS 1.2 and 1.3 with resumption by tickets.

    @param cert_file: PEM: the server's certificate, then the chain.
    @param key_file: PEM: its private key, without a passphrase, readable by its owner only.
    @raise SettingsError: a file is missing or wrong, or they do not belong together; the text names it.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION)  # type: ignore[attr-defined]  # unknown to the type stubs
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Otherwise a client that ends without a close_notify gets nothing of what is still on its way to it.
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)  # type: ignore[attr-defined]
    context.set_cipher_list(CIPHERS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(PARTIAL_WRITE)
    # Tickets keep sessions at the client. A context that asked for client certificates would not resume without an id.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"qvd-l7r")
    try:
        context.use_certificate_chain_file(str(cert_file))
    except SSL.Error as error:
        raise SettingsError(f"{cert_file}: not a certificate in PEM ({reason_of(error)})") from error
    try:
        key = load_pem_private_key(_read_private(key_file), password=None)
        context.use_privatekey(key)  # type: ignore[arg-type]  # the type stubs know only pyOpenSSL's own keys
        context.check_privatekey()
    except (SSL.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = reason_of(error) if isinstance(error, SSL.Error) else "no private key in PEM without passphrase"
        raise SettingsError(f"{key_file}: not the private key of {cert_file}: {reason}") from error
    return context


def _read_private(key_file: str | Path) -> bytes:
    """The file's content, if nobody but its owner can read it."""
    try:
        with open(key_file, "rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingsError(f"{key_file}: others than its owner may use this private key; run chmod 600 on it")
            return file.read()
    except OSError as error:
        raise SettingsError(f"{key_file}: {error.strerror}") from error


def reason_of(error: SSL.Error) -> str:
    """A few words for the log."""
    if isinstance(error, SSL.ZeroReturnError):
        return "the client closed"
    if isinstance(error, SSL.SysCallError):
        number = error.args[0]
        return os.strerror(number) if number > 0 else "the client closed"
    queue = error.args[0] if error.args else ()
    return str(queue[-1][2]) if queue else "the client closed"


class HandshakeFailed(ConnectionLost):
    """There will be no TLS with this client.

    @ivar noteworthy: False for one that went away before it had said anything, as probes of load balancers do.
    """

    def __init__(self, reason: str, noteworthy: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.noteworthy = noteworthy


@frozen
class TLSLimits:
    """What clients may take up before anybody knows who they are.

    @ivar handshake_seconds: from the connection to the end of the handshake.
    @ivar connections: at once; handshakes count.
    @ivar connections_per_address: of these, from one address.
    """

    handshake_seconds: float
    connections: int
    connections_per_address: int


class TLSTransport(SocketTransport):
    """A client's connection, from its first byte.

    A client's bare end of stream passes for a close_notify: old clients send none.
    """

    def __init__(
        self,
        connected: socket.socket,
        newcomer: Newcomer,
        address: SocketName,
        port: Port,
        number: int,
        reactor: ISocketReactor,
    ) -> None:
        """The signature that L{Port} calls."""
        super().__init__(connected, newcomer, address, reactor)
        self._newcomer: Newcomer | None = newcomer
        self._listener = newcomer.listener
        self._tls = SSL.Connection(newcomer.listener.context, connected)
        self._tls.set_accept_state()

    def start_handshake(self, seconds: float) -> None:
        failed = HandshakeFailed(f"not done in {seconds:g} s")
        self._set_timer(seconds, lambda: self.connectionLost(failure_of(failed)))
        self.resumeProducing()

    def doRead(self) -> Exception | None:
        if self._phase is not Phase.OPEN and self._phase not in RECEIVING:
            return self._discard()
        if self._newcomer is not None:
            return self._shake_hands(self._newcomer)
        if self._paused:
            return None
        chunks: list[bytes] = []
        verdict = self._read_records(chunks)
        if chunks:
            self.protocol.dataReceived(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        return self._end_of_stream() if verdict is CONNECTION_DONE else verdict

    def _read_records(self, chunks: list[bytes]) -> Exception | None:
        """Add what is there, up to a limit; a short record is likely to be the last one for now.

        @return: why there will be no more.
        """
        try:
            while len(chunks) < RECORDS_PER_READ:
                chunks.append(self._tls.recv(RECORD))
                if len(chunks[-1]) < RECORD:
                    break
        except (SSL.WantReadError, SSL.WantWriteError):
            pass
        except SSL.Error as error:
            if not isinstance(error, SSL.ZeroReturnError) and error.args != (-1, "Unexpected EOF"):
                return ConnectionLost(reason_of(error))
            return CONNECTION_DONE
        return None

    def doWrite(self) -> Exception | None:
        if self._newcomer is not None and self._phase is Phase.OPEN:
            return self._shake_hands(self._newcomer)
        return super().doWrite()

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            self._listener.leave(self)
        super().connectionLost(reason)

    def _shake_hands(self, newcomer: Newcomer) -> Exception | None:
        state = self._tls.get_state_string()
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._reactor.removeWriter(self)
            return None
        except SSL.WantWriteError:
            self._reactor.addWriter(self)
            return None
        except SSL.Error as error:
            if reason_of(error) in PLAIN_HTTP_REASONS:
                self._answer_plain_http(newcomer)
                return None
            silent = isinstance(error, CLOSED) and state.startswith(b"before")
            return HandshakeFailed(reason_of(error), noteworthy=not silent)
        self._newcomer = None
        self._clear_timer()
        self._reactor.removeWriter(self)
        newcomer.handshake_completed()
        return None

    def _answer_plain_http(self, newcomer: Newcomer) -> None:
        """In clear text, which is what this client speaks."""
        newcomer.refused("plain HTTP")
        try:
            self._socket.send(PLAIN_HTTP_REPLY)
        except OSError:
            pass
        self.loseConnection()

    def _transmit(self, data: bytes | memoryview) -> int:
        try:
            return self._tls.send(data)
        except (SSL.WantWriteError, SSL.WantReadError):
            return 0
        except SSL.Error as error:
            self._broken = ConnectionLost(reason_of(error))
            return 0

    def _farewell(self) -> bool:
        if self._newcomer is not None or self._broken is not None or self._unsent:
            return True
        try:
            self._tls.shutdown()
        except SSL.WantWriteError:
            return False
        except SSL.Error:  # nobody is left to hear it
            pass
        return True


class Newcomer(Protocol):
    """Stands where the client's protocol will be, until there is TLS."""

    log = Logger()

    transport: TLSTransport

    def __init__(self, listener: TLSListenerFactory) -> None:
        self.listener = listener

    def makeConnection(self, transport: TLSTransport) -> None:
        self.transport = transport
        self.listener.enter(transport)
        transport.start_handshake(self.listener.limits.handshake_seconds)

    def handshake_completed(self) -> None:
        """Let the real protocol have it."""
        transport = self.transport
        protocol = self.listener.inner.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.loseConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)

    def refused(self, reason: str) -> None:
        peer = self.transport.getPeer()
        self.log.info("{host}:{port}: no TLS: {reason}", host=peer.host, port=peer.port, reason=reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        error = reason.value
        if isinstance(error, HandshakeFailed) and error.noteworthy:
            self.refused(error.reason)
        else:
            peer = self.transport.getPeer()
            self.log.debug("{host}:{port}: gone before TLS", host=peer.host, port=peer.port)


@implementer(IProtocolFactory)
class TLSListenerFactory:
    """Lets clients in, up to the limits, and makes the inner factory's protocols once a client has TLS.

    @ivar context: for new connections; may be replaced when the certificate is renewed.
    """

    log = Logger()

    def __init__(self, context: SSL.Context, inner: IProtocolFactory, limits: TLSLimits) -> None:
        self.context = context
        self.inner = inner
        self.limits = limits
        self._transports: set[TLSTransport] = set()
        self._addresses: Counter[str] = Counter()
        self._refusing = False

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Newcomer | None:
        host = str(getattr(addr, "host", addr))
        full = len(self._transports) >= self.limits.connections
        if not full and self._addresses[host] < self.limits.connections_per_address:
            self._refusing = False
            return Newcomer(self)
        if not self._refusing:  # one line, and not one for each of a flood
            self.log.info("{host}: refused: {what}", host=host, what="full" if full else "too many from there")
        self._refusing = True
        return None

    def enter(self, transport: TLSTransport) -> None:
        self._transports.add(transport)
        self._addresses[transport.getPeer().host] += 1

    def leave(self, transport: TLSTransport) -> None:
        self._transports.discard(transport)
        host = transport.getPeer().host
        self._addresses[host] -= 1
        if not self._addresses[host]:
            del self._addresses[host]

    @property
    def count(self) -> int:
        """Connections that are open, in whatever state."""
        return len(self._transports)

    def close_all(self) -> None:
        """Close each connection, in whatever state it is."""
        for transport in list(self._transports):
            transport.loseConnection()


class TLSPort(SharedPort):
    """A port whose connections are L{TLSTransport}s."""

    transport = TLSTransport  # type: ignore[assignment]  # the hook that Port documents, typed too narrowly


def listen_tls(
    reactor: ISocketReactor,
    address: str,
    port: int,
    factory: TLSListenerFactory,
    backlog: int = 512,
    inherited: int | None = None,
) -> IListeningPort:
    """L{listen} for clients that speak TLS."""
    return listen(TLSPort, reactor, address, port, factory, backlog, inherited)
