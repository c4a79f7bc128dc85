# -*- test-case-name: tests.unit.test_agent_homedisk -*-
"""Looks at a disk of this machine, in a thread."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from qvd.agent.homedisk import WIPEFS, DiskFacts, IDiskProbe, is_mounted, is_there, starts_with_zeros
from qvd.model.errors import Unavailable

SECONDS = 20.0


@implementer(IDiskProbe)
@frozen
class DiskProbe:
    """@ivar present: whether there is such a device."""

    reactor: IReactorTime
    in_thread: Callable[[Callable[[], DiskFacts]], Deferred[DiskFacts]]
    present: Callable[[str], bool] = is_there

    async def look(self, device: str, place: str) -> DiskFacts:
        try:
            return await self.in_thread(lambda: self._look(device, place)).addTimeout(2 * SECONDS, self.reactor)
        except TimeoutError:
            raise Unavailable(f"The user disk {device} does not answer") from None
        except OSError as error:
            raise Unavailable(f"The user disk {device}: {error.strerror or error}") from None

    def _look(self, device: str, place: str) -> DiskFacts:
        if is_mounted(place) or not self.present(device):
            return DiskFacts(self.present(device), is_mounted(place), (), False)
        return DiskFacts(True, False, signatures(device), starts_with_zeros(device))


def signatures(device: str) -> tuple[str, ...]:
    """What C{wipefs} finds; it only looks.

    @raise Unavailable: it does not work.
    """
    words = [WIPEFS, "--no-act", "--noheadings", "--output", "TYPE", device]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"The user disk {device} does not answer") from None
    if done.returncode != 0:
        raise Unavailable(f"The user disk {device}: {done.stderr.strip()[-200:] or 'wipefs failed'}")
    return tuple(dict.fromkeys(line.strip() for line in done.stdout.splitlines() if line.strip()))
