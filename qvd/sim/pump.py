# -*- test-case-name: tests.contract.test_sim_run -*-
"""
Keeps simulated time and the database's time together.

Time stands still while a node waits for the database, and else jumps to the next thing that is to happen. So a run
takes as long as the work takes, not as long as the day, and how fast this machine is has no influence on it. Calls to
the database take turns, so that the order in which they are made is the order in which they are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from qvd.db.connection import Link
from qvd.db.pool import Pool
from qvd.sim.clock import NodeReactor, VirtualClock

T = TypeVar("T")

TICK = 0.02
"""Seconds that are taken for one moment."""
SETTLE_SECONDS = 30.0


class Ticket:
    """A turn, or a place in the line for one."""

    def __init__(self, node: NodeReactor) -> None:
        self.node = node
        self.ready: Deferred[None] = Deferred()


class Turns:
    """One call to the database at a time, of all nodes.

    @param before: called before each.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self.before = before
        self._holder: Ticket | None = None
        self._line: deque[Ticket] = deque()

    @property
    def busy(self) -> bool:
        """Somebody has the turn."""
        return self._holder is not None

    async def take(self, node: NodeReactor) -> Ticket:
        """Wait for one's turn. A node that hears no answers waits for nobody, and nobody for it."""
        ticket = Ticket(node)
        if node.mute:
            return ticket
        if self._holder is None:
            self._holder = ticket
            return ticket
        self._line.append(ticket)
        try:
            await ticket.ready
        except BaseException:
            self.give(ticket)
            raise
        return ticket

    def give(self, ticket: Ticket) -> None:
        """It is over."""
        if ticket in self._line:
            self._line.remove(ticket)
        if self._holder is ticket:
            self._holder = None
            self._next()

    def _next(self) -> None:
        if self._line:
            self._holder = self._line.popleft()
            self._holder.ready.callback(None)

    def leave(self, node: NodeReactor) -> None:
        """C{node} hears nothing any more: it goes on, or not, by itself."""
        mine = [ticket for ticket in self._line if ticket.node is node]
        for ticket in mine:
            self._line.remove(ticket)
            node.callLater(0, ticket.ready.callback, None)
        if self._holder is not None and self._holder.node is node:
            self._holder = None
            self._next()


class TurnPool(Pool):
    """A pool whose calls wait for their turn."""

    turns: Turns

    async def _use(self, call: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
        ticket = await self.turns.take(self._reactor)
        self.turns.before()
        try:
            return await super()._use(call)
        finally:
            self.turns.give(ticket)


def pool_maker(turns: Turns) -> Callable[..., Pool]:
    """For L{qvd.hkd.composition.Machine}."""

    def make(*args: Any, **kwargs: Any) -> Pool:
        pool = TurnPool(*args, **kwargs)
        pool.turns = turns
        return pool

    return make


class Pump:
    """Lets simulated time go on.

    @param asked: statements sent so far, by all nodes.
    @param busy: somebody waits for the database.
    @param settle: returns when every bell that was rung has been heard.
    """

    def __init__(
        self,
        real: Any,
        clock: VirtualClock,
        asked: Callable[[], int],
        busy: Callable[[], bool],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._real = real
        self._clock = clock
        self._asked = asked
        self._busy = busy
        self._settle = settle
        self._settled_at = -1

    async def run_until(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        """@param enough: ends it before."""
        while self._clock.seconds() < until and not enough():
            now = self._clock.seconds()
            due = self._clock.due()
            moment = min(until, max(now, until if due is None else due) + TICK)
            self._clock.run_until(moment)
            await self._quiet()

    async def _quiet(self) -> None:
        """Until nothing more comes of what has happened."""
        while True:
            await self._answered()
            if self._asked() == self._settled_at:
                return
            self._settled_at = self._asked()
            await self._settle()

    async def _answered(self) -> None:
        # What is to be done at once is part of an answer.
        self._clock.run_until(self._clock.seconds())
        while self._busy():
            await self._something()
            self._clock.run_until(self._clock.seconds())

    async def _something(self) -> None:
        """Wait until there is something to be done at once."""
        due = self._clock.due()
        if due is not None and due <= self._clock.seconds():
            return
        happened: Deferred[None] = Deferred()

        def urgent() -> None:
            self._clock.urgent = lambda: None
            # Not from inside of whoever asks for it.
            self._real.callLater(0, happened.callback, None)

        self._clock.urgent = urgent
        await in_time(self._real, happened, "The database did not answer")


def in_time(real: Any, happened: Deferred[None], what: str) -> Deferred[None]:
    """@raise RuntimeError: C{what}, for too long."""

    def late(result: object, seconds: float) -> None:
        raise RuntimeError(f"{what} for {seconds:g} s: the simulation is stuck")

    return happened.addTimeout(SETTLE_SECONDS, real, late)


class Assembly:
    """Who has heard the bell that is rung to know that all earlier ones were heard."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._number = 0
        self._missing: set[object] = set()
        self._all: Deferred[None] | None = None

    def listener(self, who: object) -> Callable[[str], None]:
        """For C{who}'s bells."""

        def ring(payload: str) -> None:
            if payload == str(self._number):
                self.forget(who)

        return ring

    def forget(self, who: object) -> None:
        """It has heard, or never will."""
        self._missing.discard(who)
        if not self._missing and self._all is not None:
            everybody, self._all = self._all, None
            everybody.callback(None)

    async def call(self, ring: Callable[[int], None], present: Collection[object]) -> None:
        """Ring, and wait for all that are there."""
        self._number += 1
        self._missing = set(present)
        if self._missing:
            everybody = self._all = Deferred()
            ring(self._number)
            await in_time(self._real, everybody, "A bell was not heard")
