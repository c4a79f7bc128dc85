# -*- test-case-name: tests.unit.test_adapters_heads -*-
"""
Messages of one connection, as a coroutine sees them: it receives, sends, and may take the connection over.

Whatever the peer does, what is kept of it is bounded: bytes by pausing the transport, time by deadlines. A peer that
does not read its answers gets no further ones.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.protocols.http1 import HeadReader, RemoteProtocolError, RequestHead, Response, ResponseReader

T = TypeVar("T")
CLOSE_SECONDS = 5.0
"""How long a peer may take to agree that a connection is over."""


class ConnectionClosed(Exception):
    """The peer is gone."""


class HeadTimeout(RemoteProtocolError):
    """The peer took too long."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 408)


@frozen
class HeadLimits:
    """What a client may take.

    @ivar head_bytes: of one head, and about what is read ahead.
    @ivar head_seconds: from the first byte of a head to its last.
    @ivar first_seconds: from the start of the connection until L{HeadServer.authenticated}.
    @ivar idle_seconds: between two requests.
    """

    head_bytes: int
    head_seconds: float
    first_seconds: float
    idle_seconds: float


class Receiver(typing.Protocol):
    """Who takes a connection over."""

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


class Wire(typing.Protocol):
    """What is used of a stream's transport, TLS or not."""

    def write(self, data: bytes) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def getPeer(self) -> IAddress: ...


def _peer_text(address: IAddress) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return "local"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Messages(Protocol, Generic[T]):
    """One connection and its messages.

    @ivar peer: the other end's address, for logs.
    """

    log = Logger()
    peer = "nobody"

    def __init__(
        self, clock: IReactorTime, reader: HeadReader | ResponseReader, parse: Callable[[], T | None], read_ahead: int
    ) -> None:
        """
        @param parse: takes the next message out of C{reader}.
        @param read_ahead: bytes to keep while nobody receives.
        """
        self._clock = clock
        self._reader = reader
        self._parse = parse
        self._read_ahead = read_ahead
        self._waiter: Deferred[T] | None = None
        self._receiver: Receiver | None = None
        self._lost: Failure | None = None
        self._closing: IDelayedCall | None = None
        self._closed = self._handed_over = self._paused = False

    @property
    def _wire(self) -> Wire:
        return cast(Wire, self.transport)

    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self.peer = _peer_text(self._wire.getPeer())

    async def receive(self) -> T:
        """The next message.

        @raise ConnectionClosed: there will be none.
        @raise RemoteProtocolError: the peer does not speak the protocol.
        """
        if self._lost is not None or self._closed:
            raise ConnectionClosed
        if self._waiter is not None or self._handed_over:
            raise RuntimeError("received twice at once, or after handing over")
        waiter = self._waiter = Deferred()
        self._waiting()
        try:
            self._pump()
            return await waiter
        finally:
            self._waiter = None
            self._waited()

    def send(self, data: bytes) -> None:
        """Write; to a peer that is gone, in vain."""
        if self._lost is None and not self._closed:
            self._wire.write(data)

    def close(self) -> None:
        """Send what is left to be sent, then hang up. What still comes in is not looked at."""
        if self._lost is not None or self._closed:
            return
        self._closed = True
        self._fail(ConnectionClosed())
        self._closing = self._clock.callLater(CLOSE_SECONDS, self._wire.abortConnection)
        if not self._handed_over:
            self._let_go()
        self._reader.take_rest()
        # A transport that is paused would not notice that the peer agrees.
        self._wire.resumeProducing()
        self._wire.loseConnection()

    def abort(self) -> None:
        """Hang up at once."""
        if self._lost is None:
            self._closed = True
            self._fail(ConnectionClosed())
            self._wire.abortConnection()

    def hand_over(self) -> tuple[ITransport, bytes]:
        """End the reading of messages: the transport, paused, and the bytes that were read past the last message.

        @raise ConnectionClosed: the peer is gone.
        """
        if self._lost is not None or self._closed:
            raise ConnectionClosed
        self._handed_over = True
        self._let_go()
        self._wire.pauseProducing()
        transport = self.transport
        assert transport is not None
        return transport, self._reader.take_rest()

    def set_receiver(self, receiver: Receiver) -> None:
        """Give all further bytes, and the loss of the connection, to C{receiver}. The transport goes on reading."""
        self._receiver = receiver
        # A TLS transport goes on for a while after it was paused.
        if rest := self._reader.take_rest():
            receiver.dataReceived(rest)
        if self._lost is not None:
            receiver.connectionLost(self._lost)
            return
        # Seen from the transport, the cheapest way to forward: nothing of ours is in between.
        self.dataReceived = receiver.dataReceived  # type: ignore[method-assign]
        self._wire.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if not self._closed:
            self._reader.feed(data)
            self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self._receiver is not None:
            self.__dict__.pop("dataReceived", None)
            self._receiver.connectionLost(reason)
            return
        self._reader.take_rest()
        self._fail(ConnectionClosed())

    def _pump(self) -> None:
        """Give the next message to who waits for it, and keep the transport from bringing more than is wanted."""
        waiter = self._waiter
        if waiter is not None and not waiter.called:
            try:
                message = self._parse()
            except RemoteProtocolError as error:
                self._fail(error)
            else:
                if message is not None:
                    waiter.callback(message)
                elif self._reader.pending:
                    self._begun()
        self._regulate()

    def _regulate(self) -> None:
        if self._handed_over or self._closed or self._lost is not None:
            return
        full = self._reader.buffered > self._read_ahead
        if full and not self._paused:
            self._paused = True
            self._wire.pauseProducing()
        elif self._paused and not full:
            self._paused = False
            self._wire.resumeProducing()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.called:
            self._waiter.errback(error)

    def _let_go(self) -> None:
        """Nothing more is sent by us."""

    def _waiting(self) -> None:
        """A wait for a message begins."""

    def _begun(self) -> None:
        """The message that is waited for has begun to come in. Called with each further piece of it."""

    def _waited(self) -> None:
        """The wait is over, however."""


@implementer(IPushProducer)
class HeadServer(Messages[RequestHead]):
    """A client's connection, served by one coroutine.

    The coroutine is cancelled when the client goes, and the connection closed when the coroutine ends, except where
    it was handed over: then it is its receiver's to end, and the coroutine goes on, to see the receiver out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limits: HeadLimits,
        converse: Callable[[HeadServer], Coroutine[Any, Any, None]],
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param converse: serves the connection.
        @param gone: called when the connection is no more.
        """
        reader = HeadReader(limits.head_bytes)
        super().__init__(clock, reader, reader.next_head, limits.head_bytes)
        self._limits = limits
        self._converse = converse
        self._gone = gone
        self._conversation: Deferred[None] | None = None
        self._first: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._head_begun = self._overdue = self._choked = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._wire.registerProducer(self, True)
        self._first = self._clock.callLater(self._limits.first_seconds, self._first_over)
        self._conversation = conversation = Deferred.fromCoroutine(self._converse(self))
        conversation.addCallbacks(lambda _: self._ended(True), self._failed)
        conversation.addErrback(lambda failure: self.log.failure("{peer}: not closed", failure, peer=self.peer))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.authenticated()
        if self._receiver is None and self._conversation is not None:
            self._conversation.cancel()
        self._gone()

    def authenticated(self) -> None:
        """The client is somebody: from now on it may take C{idle_seconds} between requests."""
        self._overdue = False
        if self._first is not None and self._first.active():
            self._first.cancel()

    def hand_over(self) -> tuple[ITransport, bytes]:
        self.authenticated()
        return super().hand_over()

    def pauseProducing(self) -> None:
        """The peer does not read: no further messages until it does."""
        self._choked = True

    def resumeProducing(self) -> None:
        self._choked = False
        self._pump()

    def stopProducing(self) -> None:
        """L{connectionLost} follows."""

    def _pump(self) -> None:
        if self._choked:
            self._regulate()
        else:
            super()._pump()

    def _let_go(self) -> None:
        self._wire.unregisterProducer()

    def _first_over(self) -> None:
        # A conversation that is busy, looking at a password perhaps, may yet say who the client is.
        self._overdue = True
        self._fail(HeadTimeout("Nobody has logged in in time"))

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, (CancelledError, ConnectionClosed)):
            self.log.failure("{peer}: conversation failed", failure, peer=self.peer)
        self._ended(False)

    def _ended(self, well: bool) -> None:
        self.authenticated()
        if not self._handed_over:
            self.close()
        elif not well or self._receiver is None:
            self.abort()

    def _waiting(self) -> None:
        self._head_begun = False
        self._arm(self._limits.idle_seconds, "No request has come in for too long")
        if self._overdue:
            self._first_over()

    def _begun(self) -> None:
        if not self._head_begun:
            self._head_begun = True
            self._arm(self._limits.head_seconds, "The request took too long to come in")

    def _waited(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _arm(self, seconds: float, text: str) -> None:
        self._waited()
        self._timer = self._clock.callLater(seconds, lambda: self._fail(HeadTimeout(text)))


class ResponseClient(Messages[Response]):
    """A server's connection, seen from the client. It has no deadlines of its own but that of L{close}."""

    def __init__(self, clock: IReactorTime, head_limit: int, body_limit: int) -> None:
        reader = ResponseReader(head_limit, body_limit)
        super().__init__(clock, reader, reader.next_response, head_limit + body_limit)
