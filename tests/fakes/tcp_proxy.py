"""A proxy between a client and a server on 127.0.0.1 that cuts, mutes or refuses connections on request."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IListeningPort, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

MOST_HELD = 1 << 20


class _Leg(Protocol):
    """One side of a proxied connection: passes on what it hears, in order, once the other side is there."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy
        self._held = b""
        self.other: _Leg | None = None

    def connectionMade(self) -> None:
        self._proxy.legs.add(self)

    def join(self, other: _Leg) -> None:
        self.other = other
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        self._held += data
        assert len(self._held) <= MOST_HELD, "more than a test sends"
        self._proxy.heard(self, data)
        self.flush()

    def flush(self) -> None:
        """Pass on what is held back."""
        if self.other is not None and self.other.transport is not None and not self._proxy.muted:
            data, self._held = self._held, b""
            self.other.transport.write(data)

    def abort(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._proxy.legs.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class _Inbound(_Leg):
    """The client's side: dials the server."""

    def connectionMade(self) -> None:
        super().connectionMade()
        if self._proxy.refusing:
            self.abort()
            return
        endpoint = TCP4ClientEndpoint(self._proxy.reactor, "127.0.0.1", self._proxy.target)
        outbound = _Leg(self._proxy)
        endpoint.connect(Factory.forProtocol(lambda: outbound)).addCallbacks(
            lambda _: self._dialed(outbound), self._unreachable
        )

    def _dialed(self, outbound: _Leg) -> None:
        if self not in self._proxy.legs:
            outbound.abort()
            return
        outbound.join(self)
        self.join(outbound)

    def _unreachable(self, failure: Failure) -> None:
        assert isinstance(failure.value, ConnectError), failure
        self.abort()


class FaultyProxy:
    """Listens on a port of 127.0.0.1 and passes connections on to C{target}.

    @ivar refusing: while true, new connections are aborted.
    @ivar muted: while true, bytes are held back in both directions; see L{mute}.
    """

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor = reactor
        self.target = target
        self.refusing = False
        self.muted = False
        self.legs: set[_Leg] = set()
        self._listening: IListeningPort | None = None
        self._cut_on: bytes | None = None

    def start(self) -> int:
        """Listen; return the port."""
        factory = Factory.forProtocol(lambda: _Inbound(self))
        factory.noisy = False
        port = self._listening = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        number: int = port.getHost().port
        return number

    async def stop(self) -> None:
        """Close everything."""
        self.refusing = True
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
        self.cut()
        while self.legs:
            turn: Deferred[None] = Deferred()
            self.reactor.callLater(0.01, turn.callback, None)
            await turn

    def cut(self) -> None:
        """Reset all connections."""
        for leg in tuple(self.legs):
            leg.abort()

    def cut_on(self, marker: bytes) -> None:
        """Reset the connection whose client next sends C{marker} (in one piece), after passing it on."""
        self._cut_on = marker

    def mute(self) -> None:
        """Hold back all bytes; connections are still accepted."""
        self.muted = True

    def unmute(self) -> None:
        """Pass on what was held back, and go on."""
        self.muted = False
        for leg in tuple(self.legs):
            leg.flush()

    def heard(self, leg: _Leg, data: bytes) -> None:
        """A leg has got data: see whether it is time to cut."""
        if self._cut_on is not None and isinstance(leg, _Inbound) and self._cut_on in data:
            self._cut_on = None
            self.reactor.callLater(0.05, leg.abort)
