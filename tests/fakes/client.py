"""A client of the L7R, without a socket."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from qvd.protocols.adapters.heads import HeadLimits, HeadServer
from qvd.protocols.http1 import Response, ResponseReader

LIMITS = HeadLimits(head_bytes=4096, head_seconds=10.0, first_seconds=60.0, idle_seconds=1800.0)


def request(target: str, *headers: str, login: str = "alice:secret") -> bytes:
    """What a client sends; without a login where that is empty."""
    lines = [f"GET {target} HTTP/1.1", *headers]
    if login:
        lines.append(f"Authorization: Basic {b64encode(login.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def connect_request(target: str = "/qvd/connect_to_vm?id=9", login: str = "alice:secret") -> bytes:
    """The request that ends in the switch to NX."""
    return request(target, "Connection: Upgrade", "Upgrade: QVD/1.0", login=login)


class FakeClient:
    """One connection: what is sent, what comes back.

    @ivar relayed: what a receiver was given after the switch.
    """

    def __init__(self, clock: Clock, converse: Callable[[HeadServer], Coroutine[Any, Any, None]]) -> None:
        self.relayed: list[bytes] = []
        self.aborted = False
        self.gone = False
        self._reader = ResponseReader(4096, 65536)
        self._transport: Any = StringTransport()  # type: ignore[no-untyped-call]
        setattr(self._transport, "abortConnection", self._abort)  # noqa: B010
        self.wire = HeadServer(clock, LIMITS, converse)
        self.wire.makeConnection(self._transport)  # type: ignore[no-untyped-call]

    def _abort(self) -> None:
        self.aborted = True

    def send(self, data: bytes) -> None:
        self.wire.dataReceived(data)

    def read(self) -> list[Response]:
        """What has come since the last call."""
        self._reader.feed(self._transport.value())
        self._transport.clear()
        found: list[Response] = []
        while (response := self._reader.next_response()) is not None:
            found.append(response)
        return found

    def ask(self, data: bytes) -> list[Response]:
        """Send, and read what comes back at once."""
        self.send(data)
        return self.read()

    def read_nx(self) -> bytes:
        """What has come after the switch."""
        assert not self.read(), "still in HTTP"
        return self._reader.take_rest()

    @property
    def closed(self) -> bool:
        """The server has hung up, or is about to."""
        return self.aborted or bool(self._transport.disconnecting)

    def leave(self) -> None:
        """Hang up."""
        if not self.gone:
            self.gone = True
            self.wire.connectionLost(cast(Any, Failure)(ConnectionDone()))


def statuses(responses: list[Response]) -> list[int]:
    return [response.head.status for response in responses]


def news(responses: list[Response]) -> list[str]:
    """The words of the progress replies."""
    return [response.head.header("X-QVD-VM-Info") or "" for response in responses if response.head.status == 102]
