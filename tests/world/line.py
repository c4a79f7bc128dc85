"""One daemon's way to the database: a statement is sent, takes effect, is answered; any of these may not come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.interfaces import IBells
from qvd.model.errors import DatabaseUnavailable, QVDError

T = TypeVar("T")
AWAY = "The database does not answer"


class Process(Protocol):
    """A daemon, as its surroundings see it."""

    @property
    def clock(self) -> Clock: ...

    @property
    def alive(self) -> bool:
        """Its process is there, stopped or not."""

    def receive(self, event: Callable[[], object]) -> None:
        """Something came in: it is taken up at once, or when the process goes on."""


class Network(Protocol):
    """What decides about each statement.

    C{fate} is asked once for each; it answers with seconds to the effect (L{None}: never) and from it to the answer.
    """

    def fate(self, line: Line, name: str) -> tuple[float | None, float | None]: ...

    def later(self, seconds: float, event: Callable[[], object]) -> None: ...

    def committed(self, number: int, name: str) -> None: ...

    def arrives(self) -> bool:
        """Whether a statement that was under way when its line was cut comes through."""


@implementer(IBells)
class Line:
    """@ivar number: the daemon's machine.
    @ivar up: the database can be reached.
    @ivar deadline: seconds after which a statement that was not answered is given up.
    """

    def __init__(self, number: int, network: Network, process: Process, deadline: float) -> None:
        self.number = number
        self.up = True
        self.deadline = deadline
        self._network = network
        self._process = process
        self._connection = 0
        self._listeners: dict[str, list[Callable[[str], None]]] = defaultdict(list)

    def call(self, name: str, statement: Callable[[], T]) -> Deferred[T]:
        """Send it."""
        answer: Deferred[T] = Deferred()
        if not self._process.alive:
            return answer
        before, after = self._network.fate(self, name)
        timer = self._process.clock.callLater(self.deadline, self._give_up, answer)
        answer.addBoth(self._settled, timer)
        if before is not None:
            connection = self._connection
            self._network.later(before, lambda: self._take_effect(name, connection, statement, answer, after))
        return answer

    def _give_up(self, answer: Deferred[Any]) -> None:
        if not answer.called:
            answer.errback(DatabaseUnavailable(AWAY, retry_after=5))

    def _settled(self, result: T, timer: IDelayedCall) -> T:
        if timer.active():
            timer.cancel()
        return result

    def _take_effect(
        self, name: str, connection: int, statement: Callable[[], T], answer: Deferred[T], after: float | None
    ) -> None:
        """Whether anybody waits for it or not: it was sent."""
        if connection != self._connection or not (self.up or self._network.arrives()):
            return
        result: T | QVDError
        try:
            result = statement()
        except QVDError as error:
            result = error
        self._network.committed(self.number, name)
        if after is not None:
            self._network.later(after, lambda: self._return(connection, answer, result))

    def _return(self, connection: int, answer: Deferred[T], result: T | QVDError) -> None:
        # A line that was cut meanwhile brings nothing.
        if self.up and connection == self._connection:
            self._process.receive(lambda: self._answer(answer, result))

    def _answer(self, answer: Deferred[T], result: T | QVDError) -> None:
        if answer.called:
            return
        if isinstance(result, QVDError):
            answer.errback(result)
        else:
            answer.callback(result)

    def listen(self, channel: str, ring: Callable[[str], None]) -> Callable[[], None]:
        self._listeners[channel].append(ring)
        return lambda: self._listeners[channel].remove(ring)

    def ring(self, channel: str, payload: str) -> None:
        """A notification has come."""
        if self.up:
            self._process.receive(lambda: self._rung(channel, payload))

    def reset(self) -> None:
        """The server is another one: what was sent to the former one has no effect any more, nor an answer."""
        self._connection += 1

    def reconnect(self) -> None:
        """It can be reached again: bells may have been missed."""
        self.up = True
        for channel in list(self._listeners):
            self.ring(channel, "")

    def _rung(self, channel: str, payload: str) -> None:
        for listener in list(self._listeners[channel]):
            listener(payload)
