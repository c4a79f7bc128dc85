"""What every L{IDriver} keeps to. Guests are tiny; a driver that cannot run here skips by name."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from qvd.hkd.hypervisor.sandbox.driver import SandboxDriver
from qvd.interfaces import IDriver
from qvd.model.errors import DriverError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Domain, VMSpec
from tests.contract import sandbox_vms
from tests.fakes.asynchronous import asynchronous, pause, until

NINE = VMId(9)


def ignore(text: str) -> None:
    """Progress that nobody looks at."""


class DriverContract:
    """Mixin. C{base} is the test's own folder, in which all of a driver's storage lies.

    @cvar cycles: starts and ends of each of four VMs.
    @cvar cancels: moments at which a start is given up.
    """

    base: Path
    drivers: list[IDriver]
    cycles = 25
    cancels = 16

    def new_driver(self) -> IDriver:
        """A driver object as a restarted daemon would make it."""
        raise NotImplementedError

    def spec(self, vm_id: int, name: str) -> VMSpec:
        """A VM that C{runs}, C{ends} by itself at once, or is C{stubborn}: deaf to C{shutdown}."""
        raise NotImplementedError

    def has_booted(self, vm_id: VMId) -> bool:
        """The guest is up and behaves as its name says."""
        raise NotImplementedError

    def processes(self, vm_id: VMId) -> list[psutil.Process]:
        """All that run a VM, guest and hypervisor."""
        first = psutil.Process(json.loads((self.base / f"run/vms/{vm_id}/init.json").read_text())["pid"])
        return [first, *first.children(recursive=True)]

    def hang(self, vm_id: VMId) -> None:
        """Have a VM do nothing any more."""
        for process in self.processes(vm_id):
            process.suspend()

    def start_elsewhere(self, vm_id: int) -> None:
        """Start a VM from a process that then dies by KILL."""
        raise NotImplementedError

    def leave_something(self, vm_id: int) -> None:
        """Make what a crash in the middle of a start leaves behind."""
        raise NotImplementedError

    def traces(self) -> object:
        """All that driver and VMs hold now: files but the home, processes, descriptors. Compared for equality."""
        raise NotImplementedError

    async def boot(self, driver: IDriver, vm_id: int = 9, name: str = "runs") -> VMSpec:
        spec = self.spec(vm_id, name)
        await driver.prepare(spec, ignore)
        await driver.start(spec)
        return spec

    async def end(self, driver: IDriver, vm_id: VMId = NINE) -> None:
        await driver.kill(vm_id)
        await driver.destroy(vm_id)

    def test_port(self) -> None:
        assert verifyObject(IDriver, self.new_driver())

    @asynchronous
    async def test_nothing_yet(self) -> None:
        driver = self.new_driver()
        assert list(await driver.list()) == []
        for call in (driver.shutdown, driver.kill, driver.destroy):
            await call(NINE)

    @asynchronous
    async def test_start(self) -> None:
        driver = self.new_driver()
        spec = self.spec(9, "runs")
        heard: list[str] = []
        await driver.prepare(spec, heard.append)
        guest = await driver.start(spec)
        assert heard
        assert guest.secret == spec.secret
        assert list(await driver.list()) == [Domain(NINE, True, guest)]
        with pytest.raises(DriverError):
            await driver.start(spec)
        with pytest.raises(DriverError):
            await driver.destroy(NINE)
        assert list(await driver.list()) == [Domain(NINE, True, guest)]

    @asynchronous
    async def test_guests_do_not_share(self) -> None:
        driver = self.new_driver()
        specs = [self.spec(number, "runs") for number in range(1, 5)]
        for spec in specs:
            await driver.prepare(spec, ignore)
        guests = await gatherResults([Deferred.fromCoroutine(driver.start(spec)) for spec in specs])
        assert len({(guest.address, guest.vma_port) for guest in guests}) == len(specs)
        assert len({(guest.address, guest.x_port) for guest in guests}) == len(specs)

    @asynchronous
    async def test_ends_by_itself(self) -> None:
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        await self.boot(driver, 9, "ends")
        await until(lambda: gone == [NINE])
        assert list(await driver.list()) == [Domain(NINE, False, None)]
        await driver.destroy(NINE)
        assert list(await driver.list()) == []

    @asynchronous
    async def test_kill(self) -> None:
        driver = self.new_driver()
        gone: list[VMId] = []
        unwatch = driver.watch(gone.append)
        await self.boot(driver)
        await driver.kill(NINE)
        await until(lambda: gone == [NINE])
        assert list(await driver.list()) == [Domain(NINE, False, None)]
        unwatch()
        await driver.destroy(NINE)
        await driver.destroy(NINE)
        await self.boot(driver)
        await self.end(driver)
        assert gone == [NINE]

    @asynchronous
    async def test_shutdown(self) -> None:
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        await self.boot(driver)
        await until(lambda: self.has_booted(NINE))
        await driver.shutdown(NINE)
        await until(lambda: gone == [NINE])

    @asynchronous
    async def test_stubborn(self) -> None:
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        await self.boot(driver, 9, "stubborn")
        await until(lambda: self.has_booted(NINE))
        await driver.shutdown(NINE)
        await pause(0.2)
        assert gone == []
        await driver.kill(NINE)
        assert gone == [NINE]

    @asynchronous
    async def test_hang(self) -> None:
        """Whether a VM that does nothing any more is to end is for others to say."""
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        await self.boot(driver)
        await until(lambda: self.has_booted(NINE))
        self.hang(NINE)
        with contextlib.suppress(TransientError):
            # Where the request goes by way of something that hangs as well.
            await driver.shutdown(NINE)
        await pause(0.2)
        assert gone == []
        assert [found.running for found in await driver.list()] == [True]
        await driver.kill(NINE)
        assert gone == [NINE]
        await driver.destroy(NINE)

    @asynchronous
    async def test_only_that_one(self) -> None:
        driver = self.new_driver()
        await self.boot(driver, 8)
        await self.boot(driver, 9)
        await self.end(driver)
        assert [(found.vm_id, found.running) for found in await driver.list()] == [(VMId(8), True)]

    @asynchronous
    async def test_another_driver_takes_over(self) -> None:
        first = self.new_driver()
        spec = await self.boot(first)
        [known] = await first.list()
        second = self.new_driver()
        gone: list[VMId] = []
        second.watch(gone.append)
        assert list(await second.list()) == [known]
        with pytest.raises(TransientError):
            await second.start(spec)
        await second.kill(NINE)
        assert gone == [NINE]
        await second.destroy(NINE)
        assert list(await second.list()) == []

    @asynchronous
    async def test_outlives_its_daemon(self) -> None:
        self.start_elsewhere(9)
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        [found] = await driver.list()
        assert (found.vm_id, found.running) == (NINE, True)
        await until(lambda: self.has_booted(NINE))
        assert gone == []
        await driver.shutdown(NINE)
        await until(lambda: gone == [NINE])
        await driver.destroy(NINE)
        assert list(await driver.list()) == []

    @asynchronous
    async def test_killed_without_being_listed(self) -> None:
        self.start_elsewhere(9)
        driver = self.new_driver()
        await self.end(driver)
        assert list(await driver.list()) == []

    @asynchronous
    async def test_leftovers(self) -> None:
        before = self.traces()
        self.leave_something(9)
        driver = self.new_driver()
        assert list(await driver.list()) == [Domain(NINE, False, None)]
        await self.end(driver)
        assert list(await driver.list()) == []
        assert self.traces() == before

    @asynchronous
    async def test_start_over_leftovers(self) -> None:
        self.leave_something(9)
        driver = self.new_driver()
        await self.boot(driver)
        assert [found.running for found in await driver.list()] == [True]

    @asynchronous
    async def test_start_cancelled(self) -> None:
        """At whatever moment: kill and destroy leave nothing."""
        driver = self.new_driver()
        spec = self.spec(9, "runs")
        await driver.prepare(spec, ignore)
        before = self.traces()
        for step in range(self.cancels):
            starting = Deferred.fromCoroutine(driver.start(spec))
            starting.addErrback(lambda failure: None)
            await pause(step * 0.008)
            starting.cancel()
            await self.end(driver)
            assert list(await driver.list()) == []
        await until(lambda: self.traces() == before)

    @asynchronous
    async def test_leaves_nothing(self) -> None:
        driver = self.new_driver()
        for number in range(1, 5):
            await self.boot(driver, number)
            await self.end(driver, VMId(number))
        before = self.traces()

        async def cycles(number: int) -> None:
            for _ in range(self.cycles):
                await self.boot(driver, number)
                await self.end(driver, VMId(number))

        await gatherResults([Deferred.fromCoroutine(cycles(number)) for number in range(1, 5)])
        await until(lambda: self.traces() == before)


class TestSandboxDriver(DriverContract):
    """bubblewrap, for real."""

    @pytest.fixture(autouse=True)
    def storage(self, tmp_path: Path) -> Iterator[None]:
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap (bwrap) is not installed")
        self.base = tmp_path
        self.drivers = []
        yield
        pytest_twisted.blockon(Deferred.fromCoroutine(self.end_all()))

    async def end_all(self) -> None:
        driver = self.new_driver()
        for found in await driver.list():
            await self.end(driver, found.vm_id)
        for each in self.drivers:
            assert isinstance(each, SandboxDriver)
            each.close()

    def new_driver(self) -> IDriver:
        driver: IDriver = sandbox_vms.driver_of(sandbox_vms.layout(self.base))
        self.drivers.append(driver)
        return driver

    def spec(self, vm_id: int, name: str) -> VMSpec:
        (self.base / f"homes/1/{vm_id}/booted").unlink(missing_ok=True)
        return sandbox_vms.spec(vm_id, name)

    def has_booted(self, vm_id: VMId) -> bool:
        return (self.base / f"homes/1/{vm_id}/booted").exists()

    def start_elsewhere(self, vm_id: int) -> None:
        words = [sys.executable, "-m", "tests.contract.sandbox_vms", str(self.base), str(vm_id), "runs"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "started\n"
            daemon.send_signal(signal.SIGKILL)

    def leave_something(self, vm_id: int) -> None:
        for folder in (f"run/vms/{vm_id}/files", f"overlays/{vm_id}/work/work"):
            (self.base / folder).mkdir(parents=True)
        (self.base / f"overlays/{vm_id}/work/work").chmod(0)
        (self.base / f"run/vms/{vm_id}/state.json").write_text('{"half')
        (self.base / f"overlays/{vm_id}/link").symlink_to("/usr")

    def traces(self) -> object:
        files = {str(path) for part in ("run/vms", "overlays") for path in self.base.glob(f"{part}/*")}
        ours = [process.pid for process in psutil.Process().children(recursive=True)]
        return files, ours, len(os.listdir("/proc/self/fd"))
