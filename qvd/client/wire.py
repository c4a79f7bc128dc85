# -*- test-case-name: tests.unit.test_client_wire -*-
"""
One connection to the L7R, as the client sees it: requests and answers one after the other, then raw NX.

Nothing is sent before the server has proved to be the right one. Each wait has a deadline, and what the server sends
unasked is held back in its socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.client.errors import ClientError, Exit, plain
from qvd.client.tls import ServerTLS
from qvd.protocols.http1 import RemoteProtocolError, Response, ResponseReader
from qvd.protocols.l7r import VM_INFO

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024
DIAL_SECONDS = 20.0
CLOSE_SECONDS = 2.0

Progress = Callable[[str], None]
Receive = Callable[[bytes], None]
Lost = Callable[[Failure], None]


@implementer(IHandshakeListener)
class ServerConnection(Protocol):
    """The client's end.

    @ivar ready: fires when the server has proved to be the right one, or fails with a L{ClientError}.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, tls: ServerTLS) -> None:
        self.ready: Deferred[None] = Deferred(lambda _: self.abort())
        self._clock = clock
        self._tls = tls
        self._reader = ResponseReader(HEAD_LIMIT, BODY_LIMIT)
        self._waiting: Deferred[Response] | None = None
        self._closing: Deferred[None] | None = None
        self._lost: Failure | None = None
        self._receiver_lost: Lost | None = None
        self._paused = False

    def handshakeCompleted(self) -> None:
        try:
            self._tls.check(self.transport.getHandle())
        except ClientError as error:
            self._fire_ready(error)
            self.abort()
        else:
            self.transport.setTcpNoDelay(True)
            self._fire_ready(None)

    async def exchange(self, request: bytes, seconds: float, progress: Progress) -> Response:
        """Send a request and return its final answer.

        @param seconds: for each part of the answer: what the server reports on the way starts the time anew.
        @raise ClientError: no answer, or one that cannot be understood.
        """
        if self._lost is None:
            self.transport.write(request)
        while True:
            response = await self._next(seconds)
            if response.head.status == 101:
                # NX waits in the socket until somebody takes it.
                self._pause()
                return response
            if response.head.status >= 200:
                return response
            text = response.head.header(VM_INFO)
            if text:
                progress(plain(text))

    def attach(self, receive: Receive, lost: Lost) -> None:
        """HTTP is over: give all bytes, and the end, to somebody else."""
        rest = self._reader.take_rest()
        if rest:
            receive(rest)
        # Looked up on the instance at each call: a chunk costs no detour.
        self.dataReceived = receive  # type: ignore[method-assign, assignment]
        self._receiver_lost = lost
        if self._lost is not None:
            lost(self._lost)
        else:
            self._resume()

    async def close(self) -> None:
        """End the connection, in good order if the server plays along."""
        if self._lost is not None:
            return
        closing = self._closing = Deferred()
        self._resume()
        self.transport.loseConnection()
        timer = self._clock.callLater(CLOSE_SECONDS, self.abort)
        try:
            await closing
        finally:
            if timer.active():
                timer.cancel()

    def abort(self) -> None:
        """Cut it."""
        if self._lost is None and self.transport is not None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._waiting is None:
            if self._reader.buffered > HEAD_LIMIT:
                self._pause()
            return
        try:
            response = self._reader.next_response()
        except RemoteProtocolError as error:
            self._waiting.errback(self._nonsense(error))
            return
        if response is not None:
            self._waiting.callback(response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        failed = isinstance(reason.value, SSL.Error)
        text = self._tls.explain() if failed else "The server closed the connection before it had answered"
        self._fire_ready(ClientError(Exit.UNREACHABLE, text))
        if self._waiting is not None:
            self._waiting.errback(ClientError(Exit.UNREACHABLE, text))
        if self._receiver_lost is not None:
            self._receiver_lost(reason)
        if self._closing is not None:
            self._closing.callback(None)

    async def _next(self, seconds: float) -> Response:
        try:
            response = self._reader.next_response()
        except RemoteProtocolError as error:
            raise self._nonsense(error) from None
        if response is not None:
            return response
        if self._lost is not None:
            raise ClientError(Exit.UNREACHABLE, "The connection to the server is closed")
        waiting = self._waiting = Deferred()
        waiting.addBoth(self._answered)
        waiting.addTimeout(seconds, self._clock)
        self._resume()
        try:
            return await waiting
        except DeferredTimeout:
            raise ClientError(Exit.UNREACHABLE, f"The server has not answered in {seconds:g} s") from None

    def _answered(self, result: Any) -> Any:
        self._waiting = None
        return result

    def _nonsense(self, error: RemoteProtocolError) -> ClientError:
        return ClientError(Exit.REFUSED, f"The server's answer cannot be understood: {error}")

    def _fire_ready(self, error: ClientError | None) -> None:
        if self.ready.called:
            return
        if error is None:
            self.ready.callback(None)
        else:
            self.ready.errback(error)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()


async def dial(reactor: Any, host: str, port: int, tls: ServerTLS) -> ServerConnection:
    """Connect, and make sure of the server.

    @raise ClientError: it cannot be reached in time, or is not the one.
    """
    work = Deferred.fromCoroutine(_dial(reactor, host, port, tls))
    try:
        return await work.addTimeout(DIAL_SECONDS, reactor)
    except DeferredTimeout:
        text = f"{host}:{port} did not answer in {DIAL_SECONDS:g} s"
    except (ConnectError, DNSLookupError, ValueError) as error:
        text = f"{host}:{port} cannot be reached: {plain(str(error)).rstrip('.')}"
    raise ClientError(Exit.UNREACHABLE, text)


async def _dial(reactor: Any, host: str, port: int, tls: ServerTLS) -> ServerConnection:
    endpoint = wrapClientTLS(tls, HostnameEndpoint(reactor, host, port, timeout=DIAL_SECONDS))
    connection: Any = await endpoint.connect(Factory.forProtocol(lambda: ServerConnection(reactor, tls)))
    try:
        await connection.ready
    except CancelledError:
        connection.abort()
        raise
    return connection  # type: ignore[no-any-return]
