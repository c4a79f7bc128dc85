# -*- test-case-name: tests.unit.test_hkd_watch -*-
"""Is the guest's agent there? Asked often while it boots, steadily while it runs."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from qvd.interfaces import IGuest
from qvd.model.errors import GuestError


@frozen
class WatchTimes:
    """How often to ask.

    @ivar boot: seconds between two questions while the guest boots.
    @ivar interval: seconds between two questions while it runs.
    @ivar failures: so many unanswered ones in a row make it dead.
    """

    boot: float
    interval: float
    failures: int


async def until_alive(clock: IReactorTime, guest: IGuest, times: WatchTimes) -> None:
    """Return when the agent has answered. The caller sets the limit."""
    while True:
        try:
            await guest.ping()
            return
        except GuestError:
            await deferLater(clock, times.boot)


async def until_dead(clock: IReactorTime, guest: IGuest, times: WatchTimes, seen: Callable[[], None]) -> None:
    """Return when the agent has been silent for too long; call C{seen} after each answer."""
    missed = 0
    while missed < times.failures:
        await deferLater(clock, times.interval)
        try:
            await guest.ping()
        except GuestError:
            missed += 1
        else:
            missed = 0
            seen()
