"""The C{kvm} driver, for real: libvirt and QEMU, whose own processor runs the guests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from qvd.hkd.hypervisor.kvm.driver import KvmDriver
from qvd.interfaces import IDriver
from qvd.model.ids import VMId
from qvd.model.records import VMSpec
from tests.contract.test_driver import DriverContract
from tests.machines import kvm_vms

pytestmark = [pytest.mark.private, pytest.mark.kvm, pytest.mark.contract]


@pytest.fixture(scope="module")
def guest() -> Iterator[Path]:
    kvm_vms.prepare_world()
    with kvm_vms.short_folder() as folder:
        kvm_vms.make_guest(folder)
        yield folder


@pytest.fixture(scope="module")
def libvirt() -> Iterator[kvm_vms.Libvirt]:
    kvm_vms.prepare_world()
    with kvm_vms.short_folder() as folder:
        daemon = kvm_vms.Libvirt(folder)
        daemon.start()
        yield daemon
        daemon.kill()


class TestKvmDriver(DriverContract):
    """libvirt, QEMU, and a guest of busybox."""

    cycles = 5
    cancels = 4

    @pytest.fixture(autouse=True)
    def storage(self, guest: Path, libvirt: kvm_vms.Libvirt) -> Iterator[None]:
        self.guest = guest
        self.libvirt = libvirt
        self.drivers = []
        with kvm_vms.short_folder() as self.base:
            yield
            pytest_twisted.blockon(Deferred.fromCoroutine(self.end_all()))

    async def end_all(self) -> None:
        driver = self.new_driver()
        for found in await driver.list():
            await self.end(driver, found.vm_id)
        for each in self.drivers:
            assert isinstance(each, KvmDriver)
            each.close()

    def new_driver(self) -> IDriver:
        driver = kvm_vms.driver_of(kvm_vms.layout(self.base, self.guest), self.libvirt.uri)
        self.drivers.append(driver)
        return driver

    def spec(self, vm_id: int, name: str) -> VMSpec:
        return kvm_vms.spec(vm_id, name)

    def has_booted(self, vm_id: VMId) -> bool:
        log = self.base / f"run/vms/{vm_id}/console.log"
        return log.exists() and "booted" in log.read_text("utf-8", "replace")

    def start_elsewhere(self, vm_id: int) -> None:
        words = [sys.executable, "-m", "tests.machines.kvm_vms", str(self.base), str(self.guest)]
        words += [self.libvirt.uri, str(vm_id), "runs"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "started\n"
            daemon.send_signal(signal.SIGKILL)

    def leave_something(self, vm_id: int) -> None:
        (self.base / f"run/vms/{vm_id}").mkdir(parents=True)
        (self.base / f"run/vms/{vm_id}/state.json").write_text('{"half')
        overlay = self.base / f"overlays/{vm_id}"
        overlay.mkdir(parents=True)
        (overlay / "node").write_text("n1")
        (overlay / "disk.qcow2.new").write_text("half")
        (overlay / "link").symlink_to("/usr")

    def traces(self) -> object:
        files = {str(path) for part in ("run/vms", "overlays") for path in self.base.glob(f"{part}/*")}
        machines = [process.pid for process in psutil.process_iter() if process.name() == "qemu-system-x86"]
        taps = sorted(os.listdir(f"/sys/class/net/{kvm_vms.BRIDGE}/brif"))
        return files, machines, taps, descriptors()


def descriptors() -> list[str]:
    """Our own, but for sockets, which libvirt opens and closes when it likes, and its event loop's."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(link for link in links if link.startswith("/") or "pidfd" in link)
