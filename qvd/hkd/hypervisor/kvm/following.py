# -*- test-case-name: tests.machines.test_kvm_driver -*-
"""Who runs: the processes of VMs, watched by their pidfds, which needs no daemon of anybody."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet

from qvd.hkd.hypervisor.pidfd import ProcessGroupWatch, ProcessId, open_process
from qvd.model.ids import VMId


class Following:
    """One process for each VM.

    @param gone: told first of a VM that is.
    """

    def __init__(self, reactor: IReactorFDSet, gone: Callable[[VMId], None]) -> None:
        self._reactor = reactor
        self._gone = gone
        self._watches: dict[VMId, ProcessGroupWatch] = {}
        self._waiting: dict[VMId, list[Deferred[None]]] = {}
        self._told: dict[object, Callable[[VMId], None]] = {}

    def __contains__(self, vm_id: VMId) -> bool:
        return vm_id in self._watches

    def begin(self, vm_id: VMId, process: ProcessId) -> bool:
        """@return: whether it lives. If so, its end will be noticed."""
        pidfd = open_process(process)
        if pidfd is None:
            return False
        self._watches[vm_id] = ProcessGroupWatch(self._reactor, [pidfd], lambda: self._ended(vm_id))
        return True

    def when_gone(self, vm_id: VMId) -> Deferred[None]:
        """Fires when a VM that is followed is gone."""
        gone: Deferred[None] = Deferred()
        self._waiting.setdefault(vm_id, []).append(gone)
        return gone

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        """See L{qvd.interfaces.IDriver.watch}."""
        key = object()
        self._told[key] = exited

        def end() -> None:
            self._told.pop(key, None)

        return end

    def tell(self, vm_id: VMId) -> None:
        """All who watch: it is gone."""
        for exited in tuple(self._told.values()):
            exited(vm_id)

    def close(self) -> None:
        """Follow nobody any more."""
        while self._watches:
            self._watches.popitem()[1].close()

    def _ended(self, vm_id: VMId) -> None:
        del self._watches[vm_id]
        self._gone(vm_id)
        self.tell(vm_id)
        for waiting in self._waiting.pop(vm_id, []):
            waiting.callback(None)
