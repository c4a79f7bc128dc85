# -*- test-case-name: tests.unit.test_adapters_steadyclock -*-
"""
The clock that deadlines are counted on.

Twisted's reactors count on the time of day. When that is set back, a lease's end comes too late and its VMs may run
twice; when it is set forward, every deadline is over at once.
"""

from __future__ import annotations

import time
from typing import Any


def uptime() -> float:
    """Seconds since the machine was started, those included in which it was suspended: other machines went on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def count_on_uptime(reactor: Any) -> None:
    """Have all timers of C{reactor} count on L{uptime}. To be called before the first of them is set."""
    assert not reactor.getDelayedCalls(), "timers that were set count on another clock"
    reactor.seconds = uptime
