"""Containers for tests: a busybox image, root file systems and a network that do the least, below one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.hkd.files.folders import numbered, remove_tree
from qvd.hkd.hypervisor.lxc.driver import LxcDriver, LxcLayout
from qvd.hkd.hypervisor.lxc.files import SUBORDINATE, grants
from qvd.interfaces.machines import INetwork, IRoots
from qvd.model.ids import TenantId, VMId
from qvd.model.records import Nic, Persistence, VMSpec
from qvd.model.rootplan import RootPlan
from qvd.model.secret import Secret

UID_BASE = 1_000_000
BUSYBOX = Path("/bin/busybox")
INIT = """#!/bin/sh
trap "exit 0" PWR
case "$(hostname)" in
  ends) exit 3 ;;
  stubborn) trap "" PWR ;;
  script) . /home/script ;;
esac
: > /home/booted
while :; do sleep 1000 & wait; done
"""
"""What a test guest runs: its name says how it behaves. C{booted} in its home appears when signals are set up."""
PROGRAMS = (
    "sh cat cp dd hostname id ip kill ls mkdir mknod mount nc reboot sleep stat tail test touch umount wc".split()
)


def make_image(folder: Path, owner: int = UID_BASE) -> None:
    """The least that boots."""
    for name in "bin sbin etc tmp home dev proc sys run root".split():
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for program in PROGRAMS:
        (folder / "bin" / program).symlink_to("busybox")
    (folder / "sbin/init").write_text(INIT)
    (folder / "sbin/init").chmod(0o755)
    (folder / "etc/hostname").write_text("image\n")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
    (folder / "etc/motd").write_text("as delivered\n")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)


def grant_ids() -> None:
    """Let root of this world use the user ids of containers."""
    for path in SUBORDINATE:
        if not grants(Path(path).read_text(), UID_BASE):
            with open(path, "a") as file:
                file.write(f"root:{UID_BASE}:65536\n")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def interfaces() -> set[str]:
    """Names of those of this world."""
    return {name for _, name in socket.if_nameindex()}


def delete(device: str) -> None:
    """It may be on its way out."""
    subprocess.run(["ip", "link", "delete", device], check=False, capture_output=True)


@implementer(INetwork)
class BareNetwork:
    """A bridge without filters."""

    bridge = "qvdtest"

    def __init__(self) -> None:
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            ip("link", "add", self.bridge, "type", "bridge")
            ip("address", "add", "10.88.0.1/16", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")

    def device(self, vm_id: VMId) -> str:
        return f"qvdtest{vm_id}"

    async def attach(self, vm_id: VMId, nic: Nic) -> None:
        """Anything may pass."""

    async def detach(self, vm_id: VMId) -> None:
        if self.device(vm_id) in interfaces():
            delete(self.device(vm_id))


def copy(source: str, target: str) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


@implementer(IRoots)
class BareRoots:
    """Layers over image folders that are prepared already; or copies of the images."""

    def __init__(self, images: Path, base: Path, owner: int, copies: bool) -> None:
        self._images = images
        self._layers = base / "layers"
        self._kept = base / "kept"
        self._owner = owner
        self._copies = copies

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        assert (self._images / spec.image).is_dir()

    async def lay_out(self, spec: VMSpec) -> RootPlan:
        layer = self._layers / str(spec.vm_id)
        keep = spec.persistence is Persistence.EVERYTHING
        writable = self._kept / str(spec.vm_id) if keep else layer
        for path in (layer / "merged", writable / "upper", writable / "work"):
            path.mkdir(parents=True, exist_ok=True)
        os.chown(writable / "upper", self._owner, self._owner)
        lower = str(self._images / spec.image)
        if self._copies:
            copy(lower, f"{layer}/copy")
            return RootPlan(str(layer / "merged"), f"{layer}/copy")
        return RootPlan(str(layer / "merged"), str(writable / "upper"), lower, str(writable / "work"))

    async def clean(self, vm_id: VMId) -> None:
        remove_tree(self._layers / str(vm_id))

    async def left(self) -> Collection[VMId]:
        return numbered(self._layers)


def layout(base: Path) -> LxcLayout:
    """@param base: the test's own folder."""
    return LxcLayout(run=base / "run", homes=base / "homes", uid_base=UID_BASE)


def driver_of(chosen: LxcLayout, images: Path, base: Path, copies: bool = False) -> LxcDriver:
    roots = BareRoots(images, base, chosen.owner, copies)
    return LxcDriver(reactor, chosen, BareNetwork(), roots)  # type: ignore[arg-type]


def spec(vm_id: int, name: str) -> VMSpec:
    """@param name: C{runs}, C{ends}, C{stubborn}, or C{script}: it reads C{script} in its home first."""
    nic = Nic(f"10.88.{vm_id // 250 + 1}.{vm_id % 250 + 1}", 16, f"52:54:00:00:{vm_id // 256:02x}:{vm_id % 256:02x}")
    secret = Secret(f"secret of {vm_id}")
    bare = VMSpec(VMId(vm_id), TenantId(1), name, "alice", None, "busybox", 64 << 20, f"1/{vm_id}", secret)
    return evolve(bare, nic=nic)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def boot_and_die(images: str, base: str, vm_id: str, name: str) -> None:
    """A daemon that starts a VM and says so; whoever runs it ends it with KILL."""

    async def boot() -> None:
        driver = driver_of(layout(Path(base)), Path(images), Path(base))
        order = spec(int(vm_id), name)
        await driver.prepare(order, lambda text: None)
        say("prepared")
        await driver.start(order)
        say("started")

    def failed(failure: Failure) -> None:
        say(failure.getErrorMessage())

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(boot()).addErrback(failed))
    reactor.run()


if __name__ == "__main__":
    boot_and_die(*sys.argv[1:])
