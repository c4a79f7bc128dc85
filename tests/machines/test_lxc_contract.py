"""The lxc driver keeps to the contract of all drivers."""

from __future__ import annotations

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

from qvd.hkd.hypervisor.lxc.driver import LxcDriver
from qvd.hkd.hypervisor.lxc.groups import KINDS, read_hierarchies
from qvd.interfaces import IDriver
from qvd.model.ids import VMId
from qvd.model.records import VMSpec
from tests.contract.test_driver import DriverContract
from tests.machines import containers

pytestmark = [pytest.mark.private, pytest.mark.lxc, pytest.mark.contract]


def groups() -> set[str]:
    return {str(path) for place, _ in read_hierarchies() for kind in KINDS for path in place.glob(f"{kind}*")}


def host_traces() -> object:
    """What containers could leave on the machine."""
    return groups(), set(os.listdir("/sys/class/net")), Path("/proc/self/mounts").read_text()


class TestLxcDriver(DriverContract):
    """liblxc, for real."""

    @pytest.fixture(autouse=True)
    def storage(self, tmp_path: Path, busybox_images: Path) -> Iterator[None]:
        self.base = tmp_path
        self.images = busybox_images
        self.drivers = []
        # Its bridge is there before anybody looks for traces, whichever test comes first.
        containers.BareNetwork()
        yield
        pytest_twisted.blockon(Deferred.fromCoroutine(self.end_all()))

    async def end_all(self) -> None:
        driver = self.new_driver()
        for found in await driver.list():
            await self.end(driver, found.vm_id)
        for each in self.drivers:
            assert isinstance(each, LxcDriver)
            each.close()

    def new_driver(self) -> IDriver:
        driver: IDriver = containers.driver_of(containers.layout(self.base), self.images, self.base)
        self.drivers.append(driver)
        return driver

    def spec(self, vm_id: int, name: str) -> VMSpec:
        (self.base / f"homes/1/{vm_id}/booted").unlink(missing_ok=True)
        return containers.spec(vm_id, name)

    def has_booted(self, vm_id: VMId) -> bool:
        return (self.base / f"homes/1/{vm_id}/booted").exists()

    def start_elsewhere(self, vm_id: int) -> None:
        words = [sys.executable, "-m", "tests.machines.containers", str(self.images), str(self.base), str(vm_id)]
        with subprocess.Popen([*words, "runs"], stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "prepared\n"
            assert daemon.stdout.readline() == "started\n"
            daemon.send_signal(signal.SIGKILL)

    def leave_something(self, vm_id: int) -> None:
        for folder in (f"run/vms/{vm_id}/files", f"layers/{vm_id}/work/work"):
            (self.base / folder).mkdir(parents=True)
        (self.base / f"layers/{vm_id}/work/work").chmod(0)
        (self.base / f"run/vms/{vm_id}/state.json").write_text('{"half')
        containers.ip("link", "add", containers.BareNetwork().device(VMId(vm_id)), "type", "veth")
        driver = self.new_driver()
        assert isinstance(driver, LxcDriver)
        for place, _ in read_hierarchies():
            for kind in KINDS:
                (place / f"{kind}.{driver._files.name(VMId(vm_id))}/below").mkdir(parents=True)

    def traces(self) -> object:
        files = {str(path) for part in ("run/vms", "layers") for path in self.base.glob(f"{part}/*")}
        ours = [process.pid for process in psutil.Process().children(recursive=True)]
        return files, ours, len(os.listdir("/proc/self/fd")), host_traces()
