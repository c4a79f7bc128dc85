# -*- test-case-name: tests.machines.test_lxc_driver -*-
"""
The C{lxc} driver: containers of liblxc, as root.

Each container runs under a supervisor (L{qvd.hkd.hypervisor.lxc.launch}) that outlives the daemon and has mounted its
root file system where nobody else sees it. Root file systems and the network come from elsewhere.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from zope.interface import implementer

from qvd.hkd.hypervisor.lxc import launch
from qvd.hkd.hypervisor.lxc.config import Cable
from qvd.hkd.hypervisor.lxc.files import DISPLAY, LxcFiles, LxcLayout, guest_of
from qvd.hkd.hypervisor.lxc.groups import remove_groups
from qvd.hkd.hypervisor.pidfd import send_signal
from qvd.hkd.hypervisor.state import RunState
from qvd.hkd.hypervisor.supervised import ISupervisingReactor, SupervisedDriver
from qvd.interfaces import IDriver
from qvd.interfaces.machines import INetwork, IRoots
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import VMSpec

__all__ = ["LxcDriver", "LxcLayout"]

GROUP_TRIES, GROUP_PAUSE = 40, 0.05
"""A control group can be removed a moment after its last process has ended."""


@implementer(IDriver)
class LxcDriver(SupervisedDriver):
    """Containers of one run folder.

    @param network: L{None}: none is configured, and no container can be started.
    """

    name = "lxc"

    def __init__(
        self, reactor: ISupervisingReactor, layout: LxcLayout, network: INetwork | None, roots: IRoots
    ) -> None:
        self._files = LxcFiles(layout)
        super().__init__(reactor, self._files.states, Path(launch.__file__).resolve())
        self._network = network
        self._roots = roots

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        progress("Checking the image")
        self._cable(spec)
        await self._in_turn(spec.vm_id, self._files.check, spec)
        await self._roots.prepare(spec, progress)
        progress("Preparing the home")
        await self._in_turn(spec.vm_id, self._files.make_home, spec)

    async def shutdown(self, vm_id: VMId) -> None:
        state = self._states.read(vm_id)
        if state is None or state.boot != self._boot or state.init is None:
            return
        send_signal(state.init, self._files.halt_signal(vm_id))

    async def _lay_out(self, spec: VMSpec) -> tuple[RunState, Mapping[str, Any]]:
        vm_id, cable = spec.vm_id, self._cable(spec)
        await self._clean(vm_id)
        await self._in_turn(vm_id, self._files.begin, vm_id)
        root = await self._roots.lay_out(spec)
        assert self._network is not None
        await self._network.attach(vm_id, cable.nic)
        plan = await self._in_turn(vm_id, self._files.lay_out, spec, root, cable)
        guest = guest_of(spec, cable.nic.address)
        return RunState(vm_id, self._boot, guest, DISPLAY, spec.login), plan

    async def _clean(self, vm_id: VMId) -> None:
        await self._remove_groups(vm_id)
        await self._roots.clean(vm_id)
        if self._network is not None:
            await self._network.detach(vm_id)
        await self._in_turn(vm_id, self._files.clean, vm_id)

    async def _ids(self) -> set[VMId]:
        return await self._in_thread(self._files.states.ids) | set(await self._roots.left())

    def _cable(self, spec: VMSpec) -> Cable:
        if self._network is None or spec.nic is None:
            raise PermanentError(
                f"VM {spec.vm_id} has no address in the VM network, and nobody could reach it: configure the network"
            )
        return Cable(spec.nic, self._network.bridge, self._network.device(spec.vm_id))

    async def _remove_groups(self, vm_id: VMId) -> None:
        name = self._files.name(vm_id)
        for _ in range(GROUP_TRIES):
            try:
                await self._turns.run(vm_id, remove_groups, name)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise TransientError(f"The control groups of VM {vm_id}: {error.strerror or error}") from error
            await deferLater(self._reactor, GROUP_PAUSE)
        raise TransientError(f"The control groups of VM {vm_id} still hold processes")
