"""
The relay without the rest of the L7R: C{python -m bench.relay_server CERT KEY BACKEND_PORT [--idle]}.

Each client is relayed to the backend as soon as it has TLS; with C{--idle} it is only held. Prints its port.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()  # type: ignore[no-untyped-call]

from twisted.internet import reactor as _reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.protocol import Factory, Protocol, connectionDone  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402

from qvd.protocols.adapters.relay import Relay, connect_guest  # noqa: E402
from qvd.protocols.adapters.tls import (  # noqa: E402
    TLSLimits,
    TLSListenerFactory,
    TLSTransport,
    listen_tls,
    make_server_context,
)

reactor: Any = _reactor


class Straight(Protocol):
    """Relays without a word of HTTP."""

    transport: TLSTransport
    backend = 0
    relay: Relay | None = None

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        Deferred.fromCoroutine(self._join()).addErrback(lambda failure: self.transport.abortConnection())

    async def _join(self) -> None:
        guest = await connect_guest(reactor, "127.0.0.1", self.backend)
        if not self.transport.connected:
            guest.abort()
            return
        self.relay = Relay(self.transport, guest, lambda outcome: None)
        self.dataReceived = self.relay.dataReceived  # type: ignore[method-assign]
        self.relay.start()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.relay is not None:
            self.relay.connectionLost(reason)


def main(cert: str, key: str, backend: str, *options: str) -> None:
    Straight.backend = int(backend)
    inner = Factory.forProtocol(Protocol if "--idle" in options else Straight)
    inner.noisy = False
    listener = TLSListenerFactory(make_server_context(cert, key), inner, TLSLimits(10.0, 10000, 10000))
    port: Any = listen_tls(reactor, "127.0.0.1", 0, listener)
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
