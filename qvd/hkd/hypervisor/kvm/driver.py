# -*- test-case-name: tests.machines.test_kvm_driver -*-
"""
The C{kvm} driver: virtual machines by libvirt and QEMU.

The domains are transient: libvirt knows of one as long as it runs, and nothing has to be taken back. QEMU outlives both
this daemon and libvirt's. What runs is told by QEMU's processes, which are found by libvirt's notes and watched by
pidfds; so a VM is found, noticed to be gone and ended even where libvirt's daemon hangs. See decision 0019.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import libvirt
from attrs import evolve, frozen
from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.hypervisor.kvm import domains
from qvd.hkd.hypervisor.kvm.channel import Channels, IChannelReactor
from qvd.hkd.hypervisor.kvm.connection import Connection, Lifecycle
from qvd.hkd.hypervisor.kvm.domain import DomainPlan, Interface, domain_xml, numbered_domain
from qvd.hkd.hypervisor.kvm.files import Disks, KvmFiles, KvmLayout
from qvd.hkd.hypervisor.kvm.following import Following
from qvd.hkd.hypervisor.kvm.marker import DISPLAY, NX_BASE, VMA_PORT, marker_line
from qvd.hkd.hypervisor.kvm.state import KvmState
from qvd.hkd.hypervisor.kvm.virttype import VirtType
from qvd.hkd.hypervisor.kvm.workers import IWorkersReactor, Workers
from qvd.hkd.hypervisor.pidfd import ProcessId, boot_id, send_signal
from qvd.interfaces import IDriver, INetwork
from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, Persistence, VMSpec

T = TypeVar("T")
STORAGE_SECONDS = 30.0
"""For what is done in storage before and after a run; reading a whole image may take longer."""
CHECKSUM_SECONDS = 3600.0
STORAGE_THREADS = 6
BOOT_SECONDS = 30.0
ASK_SECONDS = 5.0
END_SECONDS = 2.0
"""For libvirt to end a VM. Then we do."""
KILL_PAUSE = 0.25
KILL_TRIES = 12


class IKvmReactor(IWorkersReactor, IChannelReactor, IReactorFDSet):
    """What the driver needs of a reactor."""


@frozen
class KvmTerms:
    """How virtual machines are made here.

    @ivar cpus: of a VM whose OSF says nothing.
    @ivar display: VMs have a screen, besides that of the session.
    @ivar balloon: VMs may be asked for memory that they do not use.
    """

    uri: str
    virt_type: VirtType
    cpus: float
    display: bool = True
    balloon: bool = True


def files_sentence(vm_id: VMId | None, error: OSError) -> TransientError:
    """What the storage refuses, in words."""
    where = f"{error.filename}: " if error.filename else ""
    return TransientError(f"The node's files of VM {vm_id}: {where}{error.strerror or error}")


@implementer(IDriver)
class KvmDriver:
    """VMs of one run folder. Only one driver at a time may use it.

    @param network: L{None}: the VMs have none. For tests.
    """

    name = "kvm"
    log = Logger()

    def __init__(self, reactor: IKvmReactor, layout: KvmLayout, terms: KvmTerms, network: INetwork | None) -> None:
        self._reactor = reactor
        self._files = KvmFiles(layout)
        self._states = self._files.states
        self._terms = terms
        self._network = network
        self._boot_id = boot_id()
        self._storage = Workers(reactor, "The storage", STORAGE_THREADS)
        self._channels = Channels(reactor)
        self._following = Following(reactor, self._channels.close)
        self._booting: set[VMId] = set()
        self._connection = Connection(reactor, terms.uri)
        self._connection.listen(self)
        self.log.info("virtual machines are of type {type}: {why}", type=terms.virt_type.name, why=terms.virt_type.why)

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        def from_thread(text: str) -> None:
            self._reactor.callFromThread(progress, text)

        await self._in_storage(spec.vm_id, STORAGE_SECONDS, partial(self._files.prepare, spec, from_thread))
        await self._in_storage(spec.vm_id, CHECKSUM_SECONDS, partial(self._files.verify, spec, from_thread))

    async def start(self, spec: VMSpec) -> Guest:
        vm_id = spec.vm_id
        await self._settle(vm_id)
        if self._follow(vm_id):
            raise TransientError(f"VM {vm_id} is running already")
        disks = await self._in_storage(vm_id, STORAGE_SECONDS, partial(self._files.lay_out, spec))
        if self._network is not None and spec.nic is not None:
            await self._network.attach(vm_id, spec.nic)
        address = spec.nic.address if spec.nic else ""
        guest = Guest(address, VMA_PORT, NX_BASE + DISPLAY, spec.secret)
        has_disk = spec.persistence is not Persistence.NOTHING
        state = KvmState(vm_id, self._boot_id, guest, spec.login, home_disk=has_disk)
        await self._boot(state, domain_xml(self._plan(spec, disks)))
        if not self._follow(vm_id):
            self._reactor.callLater(0, self._following.tell, vm_id)
        return state.guest

    async def shutdown(self, vm_id: VMId) -> None:
        if self._follow(vm_id) and not await self._channels.order(vm_id):
            await self._in_libvirt(vm_id, ASK_SECONDS, partial(domains.press_button, vm_id))

    async def kill(self, vm_id: VMId) -> None:
        await self._settle(vm_id)
        if self._connection.is_open:
            try:
                await self._in_libvirt(vm_id, END_SECONDS, partial(domains.end, vm_id))
            except DriverError as error:
                self.log.warn("VM {vm_id}: {error}; it is killed without libvirt", vm_id=vm_id, error=error.text)
        for _ in range(KILL_TRIES):
            if not self._follow(vm_id):
                return
            try:
                await self._following.when_gone(vm_id).addTimeout(KILL_PAUSE, self._reactor)
                return
            except TimeoutError:
                self._end_by_force(vm_id)
        raise TransientError(f"The process of VM {vm_id} does not end")

    async def destroy(self, vm_id: VMId) -> None:
        await self._settle(vm_id)
        if self._follow(vm_id):
            raise TransientError(f"VM {vm_id} still runs")
        self._channels.close(vm_id)
        if self._network is not None:
            await self._network.detach(vm_id)
        await self._in_storage(vm_id, STORAGE_SECONDS, partial(self._files.clean, vm_id))

    async def list(self) -> Sequence[Domain]:
        found = []
        for vm_id in sorted(await self._known()):
            running = self._follow(vm_id)
            state = self._states.read(vm_id)
            found.append(Domain(vm_id, running, state.guest if running and state else None))
        return found

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        return self._following.watch(exited)

    def console(self, vm_id: VMId) -> Path | None:
        """Socket of a VM's serial console, for one who looks at a time."""
        return self._files.console(vm_id) if self._follow(vm_id) else None

    def display(self, vm_id: VMId) -> Path | None:
        """Socket of a VM's screen (VNC), where it has one."""
        state = self._states.read(vm_id) if self._follow(vm_id) else None
        return Path(state.display) if state and state.display else None

    def close(self) -> None:
        """Watch no VM any more. None of them is touched."""
        self._following.close()
        self._channels.close_all()
        self._connection.close()
        self._storage.close()

    def connected(self) -> None:
        """libvirt's daemon is back, or another one. Our VMs have gone on without it."""
        for vm_id in self._states.ids():
            self._follow(vm_id)

    def heard(self, what: Lifecycle) -> None:
        """From libvirt's daemon. That a VM is gone is told by its process, sooner and also without that daemon."""
        vm_id = numbered_domain(what.name)
        trouble = domains.trouble_of(what.event, what.detail)
        if vm_id is not None and trouble is not None:
            self.log.error("VM {vm_id}: {trouble}", vm_id=vm_id, trouble=trouble)

    async def _known(self) -> set[VMId]:
        """VMs of which there is anything. What runs is known without the storage."""
        known = self._states.ids()
        try:
            return known | await self._in_storage(None, STORAGE_SECONDS, self._files.ids)
        except DriverError as error:
            self.log.error("leftovers of VMs are not looked for: {error}", error=error.text)
            return known

    async def _boot(self, state: KvmState, xml: str) -> None:
        self._booting.add(state.vm_id)
        await self._in_libvirt(state.vm_id, BOOT_SECONDS, partial(self._boot_in_thread, state, xml))
        self._booting.discard(state.vm_id)

    def _boot_in_thread(self, state: KvmState, xml: str, connection: libvirt.virConnect) -> None:
        """What is found out of the VM is written down here, for nobody may be waiting any more."""
        domains.wait_until_forgotten(state.vm_id, connection)
        self._files.check_lease()
        self._states.write(state)
        display = domains.create(connection, xml)
        self._states.write(evolve(state, qemu=self._states.qemu(state.vm_id), display=display or ""))

    async def _settle(self, vm_id: VMId) -> None:
        """Wait for a boot that nobody waits for any more, but which goes on."""
        if vm_id in self._booting:
            await self._connection.settle(vm_id, ASK_SECONDS)
            self._booting.discard(vm_id)

    async def _in_storage(self, vm_id: VMId | None, seconds: float, work: Callable[[], T]) -> T:
        try:
            return await self._storage.run(seconds, work, vm_id)
        except OSError as error:
            raise files_sentence(vm_id, error) from error

    async def _in_libvirt(self, vm_id: VMId, seconds: float, work: Callable[[libvirt.virConnect], T]) -> T:
        try:
            return await self._connection.call(work, seconds, vm_id)
        except libvirt.libvirtError as error:
            raise domains.sentence(vm_id, error) from error
        except OSError as error:
            raise files_sentence(vm_id, error) from error

    def _plan(self, spec: VMSpec, disks: Disks) -> DomainPlan:
        return DomainPlan(
            spec.vm_id,
            spec.run,
            self._terms.virt_type.name,
            spec.memory,
            spec.cpus or self._terms.cpus,
            str(disks.overlay),
            str(disks.base),
            str(disks.user) if disks.user else None,
            str(self._files.channel(spec.vm_id)),
            str(self._files.console(spec.vm_id)),
            str(self._files.console_log(spec.vm_id)),
            self._terms.display,
            self._terms.balloon,
            self._interface(spec),
            self._files.layout.boot,
        )

    def _interface(self, spec: VMSpec) -> Interface | None:
        if self._network is None:
            return None
        if spec.nic is None:
            raise PermanentError(f"VM {spec.vm_id} has no address in the VM network")
        return Interface(self._network.bridge, self._network.device(spec.vm_id), spec.nic.mac)

    def _follow(self, vm_id: VMId) -> bool:
        """Whether the VM runs. If so, its end will be noticed, and its agent is served."""
        if vm_id in self._following:
            return True
        state = self._states.read(vm_id)
        process = self._process(vm_id, state)
        if process is None or not self._following.begin(vm_id, process):
            return False
        if state is not None:
            self._channels.open(vm_id, self._files.channel(vm_id), marker_line(state))
        return True

    def _process(self, vm_id: VMId, state: KvmState | None) -> ProcessId | None:
        if state is not None and state.boot == self._boot_id and state.qemu is not None:
            return state.qemu
        return self._states.qemu(vm_id)

    def _end_by_force(self, vm_id: VMId) -> None:
        process = self._process(vm_id, self._states.read(vm_id))
        if process is not None:
            send_signal(process, signal.SIGKILL)
