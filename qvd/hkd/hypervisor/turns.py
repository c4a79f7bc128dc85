# -*- test-case-name: tests.unit.test_hypervisor_turns -*-
"""Blocking work of many VMs in threads, one thing at a time for each VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from qvd.model.ids import VMId

T = TypeVar("T")


class Turns:
    """A thread cannot be cancelled. Whoever waits for its result can; the VM's next work still waits for the thread."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        self._locks: dict[VMId, DeferredLock] = {}

    def run(self, vm_id: VMId, work: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Run C{work} in a thread when the VM's earlier work is through."""
        lock = self._locks.setdefault(vm_id, DeferredLock())
        result: Deferred[T] = Deferred()
        done = lock.run(deferToThreadPool, self._reactor, self._reactor.getThreadPool(), work, *arguments)
        # A result that was cancelled ignores the one call that still comes.
        done.addBoth(result.callback)
        done.addBoth(self._tidy, vm_id, lock)
        return result

    def _tidy(self, _: object, vm_id: VMId, lock: DeferredLock) -> None:
        if not lock.locked and not lock.waiting:
            self._locks.pop(vm_id, None)
