# -*- test-case-name: tests.unit.test_adapters_control -*-
"""A line between two daemons of one node: messages of L{qvd.protocols.handover}, and file descriptors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.unix import Port
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.protocols.adapters.heads import ConnectionClosed
from qvd.protocols.handover import LIMIT, Message, decode, encode

MOST_MESSAGES = 64
"""That wait to be received."""
MOST_DESCRIPTORS = 16
CREDENTIALS = struct.Struct("3i")


@implementer(IFileDescriptorReceiver)
class ControlLine(LineOnlyReceiver):
    """One end.

    @ivar gone: fires when there is no other end any more.
    @ivar descriptors: those that have come in, and are the receiver's to close.
    """

    log = Logger()
    delimiter = b"\n"
    MAX_LENGTH = LIMIT

    def __init__(self, clock: IReactorTime, made: Callable[[ControlLine], object] = lambda _: None) -> None:
        """@param made: called when there is a line to another process of the same user."""
        self._clock = clock
        self._made = made
        self._inbox: deque[Message] = deque()
        self._waiter: Deferred[None] | None = None
        self._peer: int | None = None
        self._closed = False
        self.descriptors: list[int] = []
        self.gone: Deferred[None] = Deferred()

    @property
    def is_gone(self) -> bool:
        """There is no other end any more."""
        return self._closed

    def connectionMade(self) -> None:
        transport: Any = self.transport
        number, uid, _ = CREDENTIALS.unpack(
            transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
        if uid != os.geteuid():
            self.log.warn("a process of user {uid} was refused", uid=uid)
            self.close()
            return
        with contextlib.suppress(OSError):
            self._peer = os.pidfd_open(number)
        self._made(self)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        if len(self.descriptors) < MOST_DESCRIPTORS:
            os.set_inheritable(descriptor, False)
            self.descriptors.append(descriptor)
        else:
            os.close(descriptor)

    def lineReceived(self, line: bytes) -> None:
        try:
            self._inbox.append(decode(line))
        except ValueError as error:
            self.log.warn("{reason}", reason=str(error))
            self.close()
        if len(self._inbox) > MOST_MESSAGES:
            self._inbox.popleft()
        self._wake()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.close()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """To an end that is gone, in vain."""
        transport: Any = self.transport
        if self._closed or transport is None:
            return
        for descriptor in descriptors:
            transport.sendFileDescriptor(descriptor)
        transport.write(encode(message))

    async def receive(self, seconds: float) -> Message:
        """The next message.

        @raise ConnectionClosed: there will be none.
        @raise TimeoutError: there was none.
        """
        if not self._inbox and not self._closed:
            waiter = self._waiter = Deferred()
            waiter.addTimeout(seconds, self._clock)
            await waiter
        if self._inbox:
            return self._inbox.popleft()
        raise ConnectionClosed

    def close(self) -> None:
        transport: Any = self.transport
        if transport is not None and not self._closed:
            transport.loseConnection()

    def kill_peer(self) -> None:
        """SIGKILL for the process at the other end, and no other that has its number by now."""
        if self._peer is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._peer, signal.SIGKILL)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        if self._peer is not None:
            os.close(self._peer)
            self._peer = None
        self._wake()
        self.gone.callback(None)


class ControlFactory(Factory):
    """A line for whoever dials."""

    noisy = False

    def __init__(self, clock: IReactorTime, made: Callable[[ControlLine], object]) -> None:
        self._clock = clock
        self._made = made

    def buildProtocol(self, addr: object) -> ControlLine:
        return ControlLine(self._clock, self._made)


@contextlib.contextmanager
def short_name(path: Path) -> Any:
    """The path, however long it is: a UNIX socket's has 107 bytes at most."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlPort(Port):
    """Neither its path nor its socket ends with it: they may be a successor's by then."""

    _shouldShutdown = False


def listen_control(reactor: Any, path: Path, made: Callable[[ControlLine], object], inherited: int | None) -> Any:
    """Listen for other daemons of this node.

    @param inherited: a socket that listens there already.
    @raise OSError: the folder cannot be written.
    """
    factory = ControlFactory(reactor, made)
    with _bound(path) if inherited is None else socket.socket(fileno=inherited) as listening:
        port: Any = ControlPort._fromListeningDescriptor(  # type: ignore[no-untyped-call]
            reactor, listening.fileno(), factory
        )
    # Of no name that Twisted would remove.
    port._bindPath = b"\0"
    port.startListening()
    return port


def _bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with short_name(path) as name:
                listening.bind(name)
        finally:
            os.umask(before)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def dial_control(reactor: Any, path: Path) -> ControlLine | None:
    """A line to the daemon that runs; L{None} where there is none."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with short_name(path) as name:
            connected.connect(name)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        return None
    else:
        lines: list[ControlLine] = []
        factory = ControlFactory(reactor, lines.append)
        reactor.adoptStreamConnection(connected.fileno(), socket.AF_UNIX, factory)
        return lines[0] if lines else None
    finally:
        connected.close()
