# -*- test-case-name: tests.contract.test_driver -*-
"""
What the drivers have in common whose VMs run each under a supervisor (L{qvd.hkd.hypervisor.supervisor}): starting it,
finding it again after the daemon was, killing, and hearing of the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorFDSet, IReactorProcess, IReactorThreads, IReactorTime
from twisted.internet.process import reapAllProcesses
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from qvd.hkd.hypervisor.pidfd import ProcessGroupWatch, boot_id, identify, open_process, send_signal
from qvd.hkd.hypervisor.state import RunState, StateFolder
from qvd.hkd.hypervisor.supervision import Supervision
from qvd.hkd.hypervisor.turns import Turns
from qvd.model.errors import TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, VMSpec

START_SECONDS = 15.0
"""From the supervisor's start to the guest's first program."""
KILL_PAUSE = 0.25
"""Seconds between two tries to kill a VM."""
KILL_TRIES = 12
"""How often that is done, first with the VM, then with its supervisor too."""
T = TypeVar("T")


class ISupervisingReactor(IReactorFDSet, IReactorProcess, IReactorThreads, IReactorTime):
    """What such a driver needs of a reactor: epoll's, say."""


class SupervisedDriver:
    """VMs of one run folder. Only one driver at a time may use it.

    Each driver's own are L{_lay_out}, L{_clean} and L{_ids}, and C{prepare} and C{shutdown} of the port.

    @param launch: the supervisor's program.
    """

    log = Logger()

    def __init__(self, reactor: ISupervisingReactor, states: StateFolder, launch: Path) -> None:
        self._reactor = reactor
        self._states = states
        self._launch = str(launch)
        self._turns = Turns(reactor)
        self._boot = boot_id()
        self._watches: dict[VMId, ProcessGroupWatch] = {}
        self._waiting: dict[VMId, Deferred[None]] = {}
        self._told: dict[object, Callable[[VMId], None]] = {}

    async def _lay_out(self, spec: VMSpec) -> tuple[RunState, Mapping[str, Any]]:
        """Make ready what this one start needs, in place of what an earlier one left.

        @return: what is to be written down, and the supervisor's plan.
        """
        raise NotImplementedError

    async def _clean(self, vm_id: VMId) -> None:
        """Free what L{_lay_out} took. The state goes last, so that it can be tried again."""
        raise NotImplementedError

    async def _ids(self) -> set[VMId]:
        """VMs of which there is anything."""
        raise NotImplementedError

    async def start(self, spec: VMSpec) -> Guest:
        vm_id = spec.vm_id
        if self._follow(vm_id):
            raise TransientError(f"VM {vm_id} is running already")
        state, plan = await self._lay_out(spec)
        supervision = self._spawn(state)
        supervision.go(plan)
        try:
            await supervision.started.addTimeout(START_SECONDS, self._reactor)
        except TimeoutError:
            self._end(vm_id)
            raise TransientError(f"VM {vm_id} could not be started in {START_SECONDS:.0f} seconds") from None
        if not self._follow(vm_id):
            self._reactor.callLater(0, self._tell, vm_id)
        return state.guest

    async def kill(self, vm_id: VMId) -> None:
        # Again and again: a signal is lost on a supervisor that has been forked and still has our own handlers.
        for end in (*[self._end] * KILL_TRIES, *[self._end_by_force] * KILL_TRIES):
            if not self._follow(vm_id):
                return
            end(vm_id)
            try:
                await self._when_gone(vm_id).addTimeout(KILL_PAUSE, self._reactor)
                return
            except TimeoutError:
                self.log.debug("VM {vm_id}: killed, not gone yet", vm_id=vm_id)
        raise TransientError(f"The processes of VM {vm_id} do not end")

    async def destroy(self, vm_id: VMId) -> None:
        if self._follow(vm_id):
            raise TransientError(f"VM {vm_id} still runs")
        await self._clean(vm_id)

    async def list(self) -> Sequence[Domain]:
        found = []
        for vm_id, state in (await self._read_states(await self._ids())).items():
            running = self._follow(vm_id)
            found.append(Domain(vm_id, running, state.guest if running and state else None))
        return found

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        key = object()
        self._told[key] = exited

        def end() -> None:
            self._told.pop(key, None)

        return end

    def close(self) -> None:
        """Watch no VM any more. None of them is touched."""
        while self._watches:
            self._watches.popitem()[1].close()

    async def _read_states(self, vm_ids: set[VMId]) -> dict[VMId, RunState | None]:
        def read() -> dict[VMId, RunState | None]:
            return {vm_id: self._states.read(vm_id) for vm_id in sorted(vm_ids)}

        return await self._in_thread(read)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    async def _in_turn(self, vm_id: VMId, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._turns.run(vm_id, work, *arguments)
        except OSError as error:
            raise TransientError(f"The node's files of VM {vm_id}: {error.strerror or error}") from error

    def _spawn(self, state: RunState) -> Supervision:
        """Start the supervisor, which waits for its plan, and write down that it is there.

        Its environment can be seen from inside the VM, so it gets none of ours.
        """
        self._states.write(state)
        supervision = Supervision(state.vm_id)
        process = self._reactor.spawnProcess(
            supervision,
            sys.executable,
            [sys.executable, "-I", "-S", self._launch],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            path="/",
        )
        pid = process.pid
        self._states.write(evolve(state, supervisor=identify(pid) if pid else None))
        return supervision

    def _end(self, vm_id: VMId) -> None:
        """Kill the VM. Before it has an init, the supervisor sees to it that it never runs."""
        state = self._states.read(vm_id)
        if state is None:
            return
        if state.init is not None:
            send_signal(state.init, signal.SIGKILL)
        elif state.supervisor is not None:
            send_signal(state.supervisor, signal.SIGTERM)

    def _end_by_force(self, vm_id: VMId) -> None:
        state = self._states.read(vm_id)
        for process in (state.init, state.supervisor) if state else ():
            if process is not None:
                send_signal(process, signal.SIGKILL)

    def _follow(self, vm_id: VMId) -> bool:
        """Whether the VM has processes. If so, their end will be noticed."""
        if vm_id in self._watches:
            return True
        state = self._states.read(vm_id)
        if state is None or state.boot != self._boot:
            return False
        processes = [open_process(process) for process in (state.supervisor, state.init) if process is not None]
        pidfds = [fd for fd in processes if fd is not None]
        if not pidfds:
            return False
        self._watches[vm_id] = ProcessGroupWatch(self._reactor, pidfds, lambda: self._gone(vm_id))
        return True

    def _when_gone(self, vm_id: VMId) -> Deferred[None]:
        """Fires when a VM that L{_follow} has found is gone. One call of L{kill} at a time waits for a VM."""
        gone = self._waiting[vm_id] = Deferred()
        return gone

    def _gone(self, vm_id: VMId) -> None:
        del self._watches[vm_id]
        # Supervisors that we started are our children.
        reapAllProcesses()
        if self._follow(vm_id):
            # Its init was not known yet, and is still on its way out.
            return
        self._tell(vm_id)
        waiting = self._waiting.pop(vm_id, None)
        if waiting is not None:
            waiting.callback(None)

    def _tell(self, vm_id: VMId) -> None:
        for exited in tuple(self._told.values()):
            exited(vm_id)
