# -*- test-case-name: tests.admin.test_streaming -*-
"""
A web server's requests whose bodies are not held in memory, nor parsed before anybody is asked who sends them.

C{twisted.web} collects a body before it calls anybody. Here an operation that streams is called as soon as the head is
there, and reads the body itself (C{request.body}, a L{Body}), while the connection waits; any other body is short
(1 MiB, if nothing else is said), and a longer one is refused before it is read.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from qvd.admin.bodies import BodyStream
from qvd.admin.call import Answer
from qvd.admin.endpoint import Endpoint
from qvd.admin.problems import Problem
from qvd.admin.site import respond

LARGEST = 1024**2
"""Bytes of a body that is held, if nothing else is said."""
MOST_HELD = 64 * 1024**2
"""Bytes of all bodies that are held at a time: they are taken in before anybody is asked who sends them."""
LINGER, LINGER_BYTES = 2.0, 16 * 1024**2
"""
How long, and how much of, a body that nobody wants is taken in after the answer. Were the connection closed at once,
the client's system would throw the answer away (RFC 9112, section 9.6).
"""
IDLE, WHOLE = 60.0, 30.0
"""Seconds without a byte, after which a client is given up; and until a request is whole, whose body is no stream."""

IsStreamed = Callable[[str, str], bool]


def streamed_by(endpoints: Iterable[Endpoint], base: str) -> IsStreamed:
    """Whether a method and a path are those of an operation that streams."""
    patterns = [
        (endpoint.method, re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", base + endpoint.path) + "/?"))
        for endpoint in endpoints
        if endpoint.streamed
    ]

    def is_streamed(method: str, path: str) -> bool:
        return any(method == known and pattern.fullmatch(path) is not None for known, pattern in patterns)

    return is_streamed


class ApiChannel(HTTPChannel):
    """A connection. The time that L{HTTPChannel} gives begins again with each byte, so a client that sends one now and
    then could hold it for ever.

    @ivar whole_seconds: from a request's first byte to its last.
    """

    whole_seconds = WHOLE
    _late: Any = None
    _streams = False

    def dataReceived(self, data: bytes) -> None:
        if self._late is None and not self._handlingRequest and not self._streams:
            self._late = self.callLater(self.whole_seconds, self.timeoutConnection)  # type: ignore[no-untyped-call]
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """The request is whole."""
        self._end_wait()
        self._streams = False
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end_wait()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """Too long."""
        self._end_wait()
        super().timeoutConnection()  # type: ignore[no-untyped-call]

    def stream(self) -> None:
        """The request's body takes its time; whoever reads it sees to it that it comes."""
        self._end_wait()
        self._streams = True

    def _end_wait(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()


class ApiRequest(Request):
    """A request whose body is streamed, or short.

    @ivar body: of an operation that streams.
    """

    channel: Any
    body: BodyStream | None = None
    _taken = 0
    _held = 0
    _refused = False
    _whole = False
    _answered = False
    _lingering: Any = None

    def gotLength(self, length: int | None) -> None:
        """The head is there; the body is not."""
        self.content = BytesIO()
        command, target, version = self.channel._command, self.channel._path, self.channel._version
        path = target.partition(b"?")[0].decode("ascii", "replace")
        if self.channel.site.is_streamed(command.decode("ascii", "replace"), path):
            self.channel.stream()
            transport = self.channel.transport
            self.body = BodyStream(length, transport.pauseProducing, transport.resumeProducing)
            if (self.requestHeaders.getRawHeaders(b"expect") or [b""])[0].lower() == b"100-continue":
                self._await_reader()
            super().requestReceived(command, target, version)  # type: ignore[no-untyped-call]
        elif length is not None and length > self._most:
            self._refuse(command, target, version, self._too_large)

    @property
    def _most(self) -> int:
        most: int = self.channel.site.largest_body
        return most

    @property
    def _too_large(self) -> Problem:
        return Problem("payload-too-large", f"A body has at most {self._most} bytes here")

    def handleContentChunk(self, data: bytes) -> None:
        """More of the body."""
        self._taken += len(data)
        if self._refused or self._answered:
            if self._taken > LINGER_BYTES:
                self._end()
        elif self.body is not None:
            self.body.feed(data)
        elif self._taken > self._most:
            self._refuse(self.channel._command, self.channel._path, self.channel._version, self._too_large)
        elif not self.channel.site.hold(len(data)):
            said = Problem("unavailable", "Too much is being sent at once: try again", headers={"Retry-After": "1"})
            self._refuse(self.channel._command, self.channel._path, self.channel._version, said)
        else:
            self._held += len(data)
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def _let_go(self) -> None:
        """Its body is held no more."""
        self.channel.site.hold(-self._held)
        self._held = 0

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of the body is there. What does not stream begins now."""
        self._whole = True
        if self.body is not None:
            self.body.end()
        if self._answered:
            self._end()
        elif self.body is None:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any) -> None:
        """The client is gone."""
        if self.body is not None:
            self.body.lose("The connection ended before the body did")
        self._let_go()
        self._stop_lingering()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """The answer is written. What is left of the body passes, for a while."""
        self._let_go()
        if self._whole or self._disconnected:
            super().finish()  # type: ignore[no-untyped-call]
            return
        if not self.startedWriting:
            self.write(b"")
        if self.chunked:
            # The client is to see the end of the answer now, not when the rest of its body has passed.
            self.channel.write(b"0\r\n\r\n")
            self.chunked = 0
        self._answered = True
        self.channel.persistent = False
        self.content = BytesIO()
        if self.body is not None:
            self.body.drop()
        self._lingering = self.channel.callLater(LINGER, self._end)

    def write(self, data: bytes) -> None:
        if not self.startedWriting and not self._whole:
            self.setHeader(b"Connection", b"close")  # type: ignore[no-untyped-call]
        super().write(data)  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        if self._disconnected or self.finished or not self._answered:
            return
        self._stop_lingering()
        self._answered = False
        super().finish()  # type: ignore[no-untyped-call]

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            try:
                self._lingering.cancel()
            except (AlreadyCalled, AlreadyCancelled):
                pass
            self._lingering = None

    def _await_reader(self) -> None:
        """C{100 Continue} is said when somebody wants the body, and not to whom is refused anyway."""
        assert self.body is not None
        self.requestHeaders.removeHeader(b"expect")
        body, read = self.body, self.body.read
        transport = self.channel.transport

        async def first() -> bytes:
            body.read = read  # type: ignore[method-assign]
            if not self.startedWriting:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return await read()

        body.read = first  # type: ignore[method-assign]

    def _refuse(self, command: bytes, target: bytes, version: bytes, problem: Problem) -> None:
        """Answer instead of the operation."""
        self._refused = True
        self.requestHeaders.removeHeader(b"expect")
        self.method, self.uri, self.clientproto = command, target, version
        self.path = target.partition(b"?")[0]
        self._tell(problem)

    def process(self) -> None:
        """Find the operation. What the library that does this would fail at does not come to it."""
        try:
            unquote_to_bytes(self.path).decode("utf-8")
        except UnicodeDecodeError:
            self._tell(Problem("malformed-request", "The path is not valid: UTF-8, percent-encoded"))
        else:
            super().process()  # type: ignore[no-untyped-call]

    def getRequestHostname(self) -> bytes:
        """Operations are the same under all names of the server, and what C{Host} says need not be one."""
        return b"localhost"

    def _tell(self, problem: Problem) -> None:
        request_id = secrets.token_hex(8)
        document = problem.document(request_id, self.path.decode("ascii", "replace"))
        answer = Answer(problem.status, document, problem.headers, "application/problem+json")
        body = respond(self, answer, request_id)
        self.setHeader(b"content-length", str(len(body)).encode())  # type: ignore[no-untyped-call]
        self.write(b"" if self.method == b"HEAD" else body)
        self.finish()


class ApiSite(Site):
    """A server of L{ApiRequest}s.

    @param is_streamed: whether the operation of a method and a path reads its body itself.
    @ivar largest_body: bytes of any other body.
    @ivar whole_seconds: until a request is whole that has another body, or none.
    @ivar held: bytes of all these bodies now, of C{most_held}.
    """

    requestFactory = ApiRequest

    def __init__(
        self,
        resource: IResource,
        is_streamed: IsStreamed,
        timeout: float = IDLE,
        largest_body: int = LARGEST,
        whole_seconds: float = WHOLE,
        **arguments: Any,
    ) -> None:
        super().__init__(resource, timeout=timeout, parsePOSTFormSubmission=False, **arguments)  # type: ignore[no-untyped-call]
        self.displayTracebacks = False
        self.is_streamed = is_streamed
        self.largest_body = largest_body
        self.whole_seconds = whole_seconds
        self.most_held = MOST_HELD
        self.held = 0

    def hold(self, size: int) -> bool:
        """Count bytes that are held, or (below 0) are no more. Whether there was room for them."""
        if size > 0 and self.held + size > self.most_held:
            return False
        self.held += size
        return True

    def buildProtocol(self, addr: IAddress | None) -> Any:
        channel: Any = ApiChannel()  # type: ignore[no-untyped-call]
        channel.factory, channel.site, channel.requestFactory = self, self, self.requestFactory
        channel.timeOut, channel.callLater = self.timeOut, self.reactor.callLater
        channel.whole_seconds = self.whole_seconds
        return channel

    def log(self, request: Any) -> None:
        """Not twisted.web's own line, which has the query string in it: L{qvd.admin.access} writes ours."""
