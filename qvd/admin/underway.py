# -*- test-case-name: tests.admin.test_underway -*-
"""
Calls that are being answered.

A call whose client has gone goes on to its end. Were it given up, its connection to the database would be closed with
it, and whoever connects and hangs up, without any credentials, could keep everybody from the database; and what was
done or refused would have no row in the audit trail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from qvd.admin.call import Answer
from qvd.admin.problems import Problem

MOST, MOST_OF_ONE = 1000, 200


class Underway:
    """Runs calls, and ends them when the daemon stops.

    @param most: calls at once: connections are no bound to those whose clients have gone.
    @param most_of_one: of these, from one address.
    """

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._running: dict[Deferred[Answer], str] = {}
        self._of: Counter[str] = Counter()
        self._stopping = False
        self._last: Deferred[None] | None = None

    @property
    def count(self) -> int:
        """Calls that are being answered."""
        return len(self._running)

    async def start(self) -> None:
        """Calls may come."""
        self._stopping = False

    def admit(self, address: str) -> None:
        """@raise Problem: a call from that address is not answered now."""
        if self._stopping:
            raise Problem("unavailable", "The administration is stopping", headers={"Retry-After": "5"})
        if len(self._running) >= self._most or self._of[address] >= self._most_of_one:
            raise Problem("unavailable", "Too many calls at once: try again", headers={"Retry-After": "1"})

    def run(self, address: str, answering: Coroutine[Any, Any, Answer]) -> Awaitable[Answer]:
        """Answer a call. To cancel what is returned ends the waiting, and not the call."""
        working = Deferred.fromCoroutine(answering)
        waiting: Deferred[Answer] = Deferred()
        self._running[working] = address
        self._of[address] += 1

        def ended(result: Any) -> None:
            del self._running[working]
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
            if not waiting.called:
                waiting.callback(result)
            if self._last is not None and not self._running and not self._last.called:
                self._last.callback(None)

        working.addBoth(ended)
        return waiting

    async def stop(self) -> None:
        """Take no more, and wait for those that there are. Cancelled, it gives them up."""
        self._stopping = True
        if not self._running:
            return
        self._last = Deferred()
        try:
            await self._last
        except CancelledError:
            for working in list(self._running):
                working.cancel()
            raise
        finally:
            self._last = None
