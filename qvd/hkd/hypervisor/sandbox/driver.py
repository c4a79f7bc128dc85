# -*- test-case-name: tests.integration.test_sandbox -*-
"""
The C{sandbox} driver: bubblewrap on this node, as root or as anybody.

Each VM has pid, ipc and uts namespaces and a root file system of its own, and shares the node's network, so its agent
and its X server listen on loopback ports. It runs under a supervisor (L{qvd.hkd.hypervisor.sandbox.launch}) that
outlives the daemon; what is needed to find it again is in L{qvd.hkd.hypervisor.state}. Its memory is not limited: that
takes a control group, which an ordinary user has not.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zope.interface import implementer

from qvd.hkd.hypervisor.pidfd import first_child, send_signal
from qvd.hkd.hypervisor.sandbox import launch
from qvd.hkd.hypervisor.sandbox.files import SandboxFiles, SandboxLayout
from qvd.hkd.hypervisor.sandbox.ports import GuestPorts, choose_ports
from qvd.hkd.hypervisor.state import RunState
from qvd.hkd.hypervisor.supervised import ISupervisingReactor, SupervisedDriver
from qvd.interfaces import IDriver
from qvd.model.ids import VMId
from qvd.model.records import Guest, VMSpec

__all__ = ["SandboxDriver", "SandboxLayout"]


@implementer(IDriver)
class SandboxDriver(SupervisedDriver):
    """VMs in bubblewrap."""

    name = "sandbox"

    def __init__(self, reactor: ISupervisingReactor, layout: SandboxLayout) -> None:
        self._files = SandboxFiles(layout)
        super().__init__(reactor, self._files.states, Path(launch.__file__).resolve())
        self._ports: dict[VMId, GuestPorts] | None = None

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        def from_thread(text: str) -> None:
            self._reactor.callFromThread(progress, text)

        await self._in_turn(spec.vm_id, self._files.prepare, spec, from_thread)

    async def shutdown(self, vm_id: VMId) -> None:
        state = self._states.read(vm_id)
        if state is None or state.boot != self._boot or state.init is None:
            return
        agent = first_child(state.init)
        if agent is not None:
            send_signal(agent, signal.SIGTERM)

    async def _lay_out(self, spec: VMSpec) -> tuple[RunState, Mapping[str, Any]]:
        ports = await self._give_ports(spec.vm_id)
        plan = await self._in_turn(spec.vm_id, self._files.lay_out, spec, ports)
        guest = Guest("127.0.0.1", ports.vma_port, ports.x_port, spec.secret)
        return RunState(spec.vm_id, self._boot, guest, ports.display, spec.login), plan

    async def _clean(self, vm_id: VMId) -> None:
        await self._in_turn(vm_id, self._files.clean, vm_id)
        if self._ports is not None:
            self._ports.pop(vm_id, None)

    async def _ids(self) -> set[VMId]:
        return await self._in_thread(self._files.ids)

    async def _give_ports(self, vm_id: VMId) -> GuestPorts:
        if self._ports is None:
            states = (await self._read_states(await self._ids())).values()
            known = {state.vm_id: GuestPorts(state.guest.vma_port, state.display) for state in states if state}
            # Two VMs may have come here at once.
            self._ports = known | (self._ports or {})
        self._ports.pop(vm_id, None)
        ports = self._ports[vm_id] = choose_ports(self._ports.values())
        return ports
