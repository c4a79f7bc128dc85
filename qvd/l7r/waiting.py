# -*- test-case-name: tests.unit.test_l7r_waiting -*-
"""Waiting for news of one VM: woken by the database's bell, at the latest after a while."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from qvd.interfaces import IBells
from qvd.model.ids import VMId
from qvd.protocols.channels import parse_vm_changed, vm_changed


class Watch:
    """News of one VM since the last look: a bell that rang while somebody looked is not missed."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: Deferred[None] | None = None

    def ring(self) -> None:
        """Something about the VM has changed."""
        self._rung = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    async def wait(self, seconds: float) -> None:
        """Return when the bell has rung since the last call, or after C{seconds}."""
        if not self._rung:
            self._waiter = Deferred()
            timer = self._clock.callLater(seconds, self.ring)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer.active():
                    timer.cancel()
        self._rung = False


class VMNews:
    """One listener for all conversations that wait for a VM."""

    def __init__(self, clock: IReactorTime, bells: IBells) -> None:
        self._clock = clock
        self._watches: dict[VMId, set[Watch]] = defaultdict(set)
        self._end: Callable[[], None] = bells.listen(vm_changed(), self._ring)

    def stop(self) -> None:
        """Listen no longer; who still waits goes on by the clock."""
        self._end()

    @contextmanager
    def watch(self, vm_id: VMId) -> Iterator[Watch]:
        """Listen for news of one VM, from now on."""
        watch = Watch(self._clock)
        self._watches[vm_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[vm_id].discard(watch)
            if not self._watches[vm_id]:
                del self._watches[vm_id]

    def _ring(self, payload: str) -> None:
        vm_id = parse_vm_changed(payload)
        rung = self._watches.get(vm_id, set()) if vm_id is not None else set().union(*self._watches.values())
        for watch in list(rung):
            watch.ring()
