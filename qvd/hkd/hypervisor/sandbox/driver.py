# -*- test-case-name: tests.integration.test_sandbox -*-
"""
The C{sandbox} driver: bubblewrap on this node, as root or as anybody.

Each VM has pid, ipc and uts namespaces and a root file system of its own, and shares the node's network, so its agent
and its X server listen on loopback ports. It runs under a supervisor (L{qvd.hkd.hypervisor.sandbox.launch}) that
outlives the daemon; what is needed to find it again is in L{qvd.hkd.hypervisor.state}. Its memory is not
limited: that takes a control group, which an ordinary user has not.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorFDSet, IReactorProcess, IReactorThreads, IReactorTime
from twisted.internet.process import reapAllProcesses
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.hypervisor.pidfd import ProcessGroupWatch, boot_id, first_child, identify, open_process, send_signal
from qvd.hkd.hypervisor.sandbox import launch as sandbox_launch
from qvd.hkd.hypervisor.sandbox.files import SandboxFiles, SandboxLayout
from qvd.hkd.hypervisor.sandbox.ports import GuestPorts, choose_ports
from qvd.hkd.hypervisor.state import RunState
from qvd.hkd.hypervisor.supervision import Supervision
from qvd.hkd.hypervisor.turns import Turns
from qvd.interfaces import IDriver
from qvd.model.errors import TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, VMSpec

__all__ = ["ISandboxReactor", "SandboxDriver", "SandboxLayout"]

START_SECONDS = 15.0
"""From the supervisor's start to the guest's first program."""
KILL_PAUSE = 0.25
"""Seconds between two tries to kill a VM."""
KILL_TRIES = 12
"""How often that is done, first with the VM, then with its supervisor too."""
LAUNCH = str(Path(sandbox_launch.__file__).resolve())
T = TypeVar("T")


class ISandboxReactor(IReactorFDSet, IReactorProcess, IReactorThreads, IReactorTime):
    """What the driver needs of a reactor: epoll's, say."""


@implementer(IDriver)
class SandboxDriver:
    """VMs of one run folder. Only one driver at a time may use it."""

    name = "sandbox"
    log = Logger()

    def __init__(self, reactor: ISandboxReactor, layout: SandboxLayout) -> None:
        self._reactor = reactor
        self._files = SandboxFiles(layout)
        self._states = self._files.states
        self._turns = Turns(reactor)
        self._boot = boot_id()
        self._ports: dict[VMId, GuestPorts] | None = None
        self._watches: dict[VMId, ProcessGroupWatch] = {}
        self._waiting: dict[VMId, Deferred[None]] = {}
        self._told: dict[object, Callable[[VMId], None]] = {}

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        def from_thread(text: str) -> None:
            self._reactor.callFromThread(progress, text)

        await self._in_turn(spec.vm_id, self._files.prepare, spec, from_thread)

    async def start(self, spec: VMSpec) -> Guest:
        vm_id = spec.vm_id
        if self._follow(vm_id):
            raise TransientError(f"VM {vm_id} is running already")
        ports = await self._give_ports(vm_id)
        plan = await self._in_turn(vm_id, self._files.lay_out, spec, ports)
        guest = Guest("127.0.0.1", ports.vma_port, ports.x_port, spec.secret)
        supervision = self._spawn(RunState(vm_id, self._boot, guest, ports.display, spec.login))
        supervision.go(plan)
        try:
            await supervision.started.addTimeout(START_SECONDS, self._reactor)
        except TimeoutError:
            self._end(vm_id)
            raise TransientError(f"VM {vm_id} could not be started in {START_SECONDS:.0f} seconds") from None
        if not self._follow(vm_id):
            self._reactor.callLater(0, self._tell, vm_id)
        return guest

    async def shutdown(self, vm_id: VMId) -> None:
        state = self._states.read(vm_id)
        if state is None or state.boot != self._boot or state.init is None:
            return
        agent = first_child(state.init)
        if agent is not None:
            send_signal(agent, signal.SIGTERM)

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
        await self._in_turn(vm_id, self._files.clean, vm_id)
        if self._ports is not None:
            self._ports.pop(vm_id, None)

    async def list(self) -> Sequence[Domain]:
        found = []
        for vm_id, state in (await self._read_states()).items():
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

    async def _read_states(self) -> dict[VMId, RunState | None]:
        def read() -> dict[VMId, RunState | None]:
            return {vm_id: self._states.read(vm_id) for vm_id in sorted(self._files.ids())}

        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read)

    async def _give_ports(self, vm_id: VMId) -> GuestPorts:
        if self._ports is None:
            states = (await self._read_states()).values()
            known = {state.vm_id: GuestPorts(state.guest.vma_port, state.display) for state in states if state}
            # Two VMs may have come here at once.
            self._ports = known | (self._ports or {})
        self._ports.pop(vm_id, None)
        ports = self._ports[vm_id] = choose_ports(self._ports.values())
        return ports

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
            [sys.executable, "-I", "-S", LAUNCH],
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
