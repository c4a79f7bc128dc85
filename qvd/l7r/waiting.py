# -*- test-case-name: tests.unit.test_l7r_waiting -*-
"""Waiting for news of one VM: woken by the database's bell, at the latest after a while."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from qvd.interfaces import IBells
from qvd.model.ids import VMId
from qvd.protocols.channels import parse_vm_changed, vm_changed


class VMNews:
    """One listener for all conversations that wait for a VM."""

    def __init__(self, clock: IReactorTime, bells: IBells) -> None:
        self._clock = clock
        self._waiters: dict[VMId, set[Deferred[None]]] = defaultdict(set)
        self._end: Callable[[], None] = bells.listen(vm_changed(), self._ring)

    def stop(self) -> None:
        """Listen no longer; who still waits goes on by the clock."""
        self._end()

    async def wait(self, vm_id: VMId, seconds: float) -> None:
        """Return when something about the VM has changed, or after C{seconds}."""
        waiter: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, waiter.callback, None)
        self._waiters[vm_id].add(waiter)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()
            self._waiters[vm_id].discard(waiter)
            if not self._waiters[vm_id]:
                del self._waiters[vm_id]

    def _ring(self, payload: str) -> None:
        vm_id = parse_vm_changed(payload)
        woken = self._waiters.get(vm_id, set()) if vm_id is not None else set().union(*self._waiters.values())
        for waiter in list(woken):
            if not waiter.called:
                waiter.callback(None)
