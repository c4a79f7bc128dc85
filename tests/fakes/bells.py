"""Bells that the test rings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from zope.interface import implementer

from qvd.interfaces import IBells


@implementer(IBells)
class FakeBells:
    """L{IBells} without a database."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[str], None]]] = defaultdict(list)

    def listen(self, channel: str, ring: Callable[[str], None]) -> Callable[[], None]:
        self._listeners[channel].append(ring)
        return lambda: self._listeners[channel].remove(ring)

    def ring(self, channel: str, payload: str = "") -> None:
        """Somebody has notified."""
        for listener in list(self._listeners[channel]):
            listener(payload)

    def reconnected(self) -> None:
        """The connection was lost and is there again."""
        for channel in list(self._listeners):
            self.ring(channel)

    def heard(self, channel: str) -> int:
        """How many listen."""
        return len(self._listeners[channel])
