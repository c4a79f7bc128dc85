"""A line to another daemon of the node, which the test plays."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from qvd.protocols.adapters.control import ControlLine
from qvd.protocols.handover import Message, encode


class FakeLine(ControlLine):
    """One end, without a socket.

    @ivar sent: what was said, in order.
    @ivar given: the descriptors that went with it.
    @ivar killed: the process at the other end was killed; it dies at once, but for an C{undead} one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self.sent: list[Message] = []
        self.given: list[int] = []
        self.killed = self.undead = False

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if not self.is_gone:
            self.sent.append(message)
            self.given.extend(descriptors)

    def hear(self, message: Message) -> None:
        """The other end says something."""
        self.lineReceived(encode(message)[:-1])

    def end(self) -> None:
        """The other end is no more."""
        if not self.is_gone:
            self.connectionLost()

    def close(self) -> None:
        self.end()

    def kill_peer(self) -> None:
        self.killed = True
        if not self.undead:
            self.end()
