"""The C{kvm} driver, for real: libvirt and QEMU, whose own processor runs the guests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from qvd.hkd.hypervisor.kvm import driver as driver_module
from qvd.hkd.hypervisor.kvm.driver import KvmDriver
from qvd.interfaces import IDriver
from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Persistence, VMSpec
from tests.contract.test_driver import NINE, DriverContract, ignore
from tests.fakes.asynchronous import asynchronous, until
from tests.machines import kvm_vms
from tests.machines.storage import memory_disk

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


def command(words: list[str]) -> None:
    subprocess.run(words, check=True)


def descriptors() -> list[str]:
    """Our own, but for sockets, which libvirt opens and closes when it likes, and its event loop's."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(link for link in links if link.startswith("/") or "pidfd" in link)


class KvmCase:
    """A driver, and all that belongs to it."""

    base: Path
    guest: Path
    libvirt: kvm_vms.Libvirt
    opened: list[KvmDriver]

    @pytest.fixture(autouse=True)
    def storage(self, guest: Path, libvirt: kvm_vms.Libvirt) -> Iterator[None]:
        self.guest = guest
        self.libvirt = libvirt
        self.opened = []
        with kvm_vms.short_folder() as self.base:
            yield
            pytest_twisted.blockon(Deferred.fromCoroutine(self.end_all()))

    async def end_all(self) -> None:
        driver = self.new_driver()
        for found in await driver.list():
            await self.end(driver, found.vm_id)
        for each in self.opened:
            each.close()

    async def boot(self, driver: IDriver, vm_id: int = 9, name: str = "runs") -> VMSpec:
        spec = self.spec(vm_id, name)
        await driver.prepare(spec, ignore)
        await driver.start(spec)
        return spec

    async def end(self, driver: IDriver, vm_id: VMId = NINE) -> None:
        await driver.kill(vm_id)
        await driver.destroy(vm_id)

    def new_driver(self) -> KvmDriver:
        driver = kvm_vms.driver_of(kvm_vms.layout(self.base, self.guest), self.libvirt.uri)
        self.opened.append(driver)
        return driver

    def spec(self, vm_id: int, name: str) -> VMSpec:
        return kvm_vms.spec(vm_id, name)

    def said(self, vm_id: VMId) -> str:
        """By the guest, on its console."""
        log = self.base / f"run/vms/{vm_id}/console.log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def has_booted(self, vm_id: VMId) -> bool:
        return "booted" in self.said(vm_id)


class TestKvmDriver(KvmCase, DriverContract):
    """libvirt, QEMU, and a guest of busybox."""

    def processes(self, vm_id: VMId) -> list[psutil.Process]:
        return [psutil.Process(int(Path(f"/run/libvirt/qemu/qvd-{vm_id}.pid").read_text()))]

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


class TestKvmFaults(KvmCase):
    """What libvirt, storage and guests do when they do not do what they should."""

    @asynchronous
    async def test_the_secret_comes_through_the_channel(self) -> None:
        driver = self.new_driver()
        await self.boot(driver)
        await until(lambda: self.has_booted(NINE))
        log = self.said(NINE)
        assert '"secret": "secret of the VM 9"' in log
        assert '"driver": "kvm"' in log

    @asynchronous
    async def test_libvirts_daemon_is_killed_under_a_vm(self) -> None:
        driver = self.new_driver()
        gone: list[VMId] = []
        driver.watch(gone.append)
        await self.boot(driver, 8)
        await self.boot(driver, 9)
        self.libvirt.kill()
        assert [found.running for found in await driver.list()] == [True, True]
        await driver.kill(VMId(8))
        assert gone == [VMId(8)]
        self.libvirt.start()
        with pytest.raises(TransientError, match="running already"):
            await driver.start(self.spec(9, "runs"))
        await driver.destroy(VMId(8))
        await self.boot(driver, 8)
        assert [found.running for found in await driver.list()] == [True, True]
        await driver.kill(NINE)
        assert gone == [VMId(8), NINE]

    @asynchronous
    async def test_libvirts_daemon_hangs(self) -> None:
        driver = self.new_driver()
        await self.boot(driver, 8)
        gaps = Gaps()
        self.libvirt.signal(signal.SIGSTOP)
        try:
            spec = self.spec(9, "runs")
            await driver.prepare(spec, ignore)
            with pytest.raises(TransientError):
                await Deferred.fromCoroutine(driver.start(spec)).addTimeout(50, reactor)
            await driver.kill(VMId(8))
            assert not (await driver.list())[0].running
        finally:
            self.libvirt.signal(signal.SIGCONT)
            sys.stdout.write(f"largest gap of the reactor: {gaps.end():.3f} s\n")
        await self.end(driver, NINE)
        await self.boot(driver, 9)

    @asynchronous
    async def test_a_user_disk_that_is_in_use(self) -> None:
        driver = self.new_driver()
        await self.boot(driver, 8)
        thief = evolve(self.spec(9, "runs"), home="1/8")
        await driver.prepare(thief, ignore)
        with pytest.raises(PermanentError, match="A disk of VM 9 is in use by another process"):
            await driver.start(thief)
        await self.end(driver, NINE)
        assert [found.vm_id for found in await driver.list()] == [VMId(8)]

    @asynchronous
    async def test_images_that_are_none(self) -> None:
        driver = self.new_driver()
        images = self.guest / "images"
        make = ["qemu-img", "create", "-q", "-f", "qcow2"]
        command([*make, "-b", "/etc/passwd", "-F", "raw", str(images / "trick.qcow2")])
        data = ["-o", f"data_file={self.base}/outside,data_file_raw=on"]
        command([*make, *data, str(images / "data.qcow2"), "1M"])
        command(["tar", "cf", str(images / "tar.qcow2"), "/etc/hostname"])
        said = []
        for name in ("trick", "data", "tar", "none"):
            with pytest.raises(PermanentError) as caught:
                await driver.prepare(evolve(self.spec(9, "runs"), image=f"{name}.qcow2"), ignore)
            said.append(caught.value.text)
        for text, words in zip(said, ("refers to another file", "in another file", "no qcow2", "exist"), strict=True):
            assert words in text

    @asynchronous
    async def test_a_checksum(self) -> None:
        driver = self.new_driver()
        spec = self.spec(9, "runs")
        digest = hashlib.sha256((self.guest / "images/runs.qcow2").read_bytes()).hexdigest()
        heard: list[str] = []
        await driver.prepare(evolve(spec, checksum=digest), heard.append)
        assert "Checking the image, 100 %" in heard
        again: list[str] = []
        await driver.prepare(evolve(spec, checksum=digest), again.append)
        assert again == ["Checking the image"]
        with pytest.raises(PermanentError, match="checksum differs"):
            await driver.prepare(evolve(spec, checksum="0" * 64), ignore)

    @asynchronous
    async def test_what_persists(self) -> None:
        driver = self.new_driver()
        everything = evolve(self.spec(9, "runs"), persistence=Persistence.EVERYTHING)
        for spec in (everything, evolve(everything, image="stubborn.qcow2"), everything):
            await driver.prepare(spec, ignore)
            await driver.start(spec)
            await self.end(driver)
        assert len(list((self.base / "overlays/persistent").iterdir())) == 2
        assert (self.base / "homes/1/9.qcow2").exists()
        nothing = evolve(self.spec(7, "runs"), persistence=Persistence.NOTHING)
        await driver.prepare(nothing, ignore)
        await driver.start(nothing)
        await self.end(driver, VMId(7))
        assert not (self.base / "homes/1/7.qcow2").exists()
        assert [path.name for path in (self.base / "overlays").iterdir()] == ["persistent"]

    @asynchronous
    async def test_a_full_disk(self) -> None:
        driver = self.new_driver()
        spec = self.spec(9, "runs")
        await driver.prepare(spec, ignore)
        overlays = self.base / "overlays"
        overlays.mkdir(exist_ok=True)
        command(["mount", "-t", "tmpfs", "-o", "size=64k", "full", str(overlays)])
        try:
            with pytest.raises(DriverError, match="No space left"):
                await driver.start(spec)
            await self.end(driver)
        finally:
            command(["umount", str(overlays)])

    @pytest.mark.parametrize("part", ["overlays", "homes"])
    @asynchronous
    async def test_read_only_storage(self, part: str) -> None:
        driver = self.new_driver()
        spec = self.spec(9, "runs")
        await driver.prepare(spec, ignore)
        place = self.base / part
        read_only = pytest.raises(TransientError, match=f"{place}.*Read-only file system")
        with memory_disk(place, "64k,ro"), read_only:
            await driver.start(spec)
        await self.end(driver)
        await self.boot(driver)

    @asynchronous
    async def test_storage_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a server of NFS that is gone: whoever opens a file waits. What needs no such file goes on."""
        monkeypatch.setattr(driver_module, "STORAGE_SECONDS", 1.0)
        driver = self.new_driver()
        image = self.guest / "images/hangs.qcow2"
        os.mkfifo(image)
        gaps = Gaps()
        try:
            with pytest.raises(TransientError, match="The storage did not answer in 1 seconds"):
                await driver.prepare(evolve(self.spec(8, "runs"), image="hangs.qcow2"), ignore)
            await self.boot(driver, 9)
        finally:
            sys.stdout.write(f"largest gap of the reactor: {gaps.end():.3f} s\n")
            # Whoever still waits goes on.
            os.close(os.open(image, os.O_RDWR))
            image.unlink()

    @asynchronous
    async def test_screen_and_console_are_sockets(self) -> None:
        driver = self.new_driver()
        await self.boot(driver)
        for path in (driver.display(NINE), driver.console(NINE)):
            assert path is not None
            assert path.is_socket()
        await self.end(driver)
        assert driver.display(NINE) is None
        assert driver.console(NINE) is None


class Gaps:
    """Measures how long the reactor is busy with one thing, at most."""

    def __init__(self) -> None:
        self._last = reactor.seconds()
        self._worst = 0.0
        self._ticks = LoopingCall(self._tick)
        observe = self._ticks.start(0.005)
        observe.addErrback(lambda failure: None)

    def _tick(self) -> None:
        now = reactor.seconds()
        self._worst = max(self._worst, now - self._last)
        self._last = now

    def end(self) -> float:
        """@return: seconds."""
        self._ticks.stop()
        return self._worst
