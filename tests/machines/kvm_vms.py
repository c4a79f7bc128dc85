"""Virtual machines for tests, in a private world: a libvirt daemon of its own, and a guest of busybox alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.hkd.hypervisor.kvm.domain import DirectBoot
from qvd.hkd.hypervisor.kvm.driver import KvmDriver, KvmTerms
from qvd.hkd.hypervisor.kvm.files import KvmLayout
from qvd.hkd.hypervisor.kvm.virttype import VirtType
from qvd.interfaces import INetwork
from qvd.model.ids import TenantId, VMId
from qvd.model.records import Nic, VMSpec
from qvd.model.secret import Secret
from tests.conftest import missing, require
from tests.rig.kernel import MODULES, kernel

BRIDGE = "kvmtest"
CMDLINE = "console=ttyS0 quiet panic=-1 no_timer_check"
"""Without the last word, a kernel under QEMU's own processor sometimes does not boot."""
KINDS = ("runs", "ends", "stubborn")
"""What images say in their first line, and so how guests behave."""
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for name in MODULES; do insmod /$name.ko; done
kind="$(head -n 1 /dev/vda | tr -d '\\0')"
[ "$kind" != ends ] || poweroff -f
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" != org.qvd.agent.0 ] || exec 3<>"/dev/${port##*/}"
done
if [ -b /dev/vdb ]; then
    echo "user disk: $(head -n 1 /dev/vdb | tr -d '\\0')"
    echo "written by $kind" | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null
fi
printf '\\n{"say": "ask"}\\n' >&3
until read -r line <&3 && [ -n "$line" ]; do sleep 0.1; done
echo "marker: $line"
echo "booted $kind"
while :; do
    if read -r line <&3; then
        case "$kind:$line" in
            runs:*poweroff*) echo '{"say": "obey"}' >&3; poweroff -f ;;
        esac
    else
        sleep 0.1
    fi
done
"""
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
"""


@implementer(INetwork)
class LoneBridge:
    """A bridge, and nothing else."""

    bridge = BRIDGE

    def __init__(self) -> None:
        self.attached: set[VMId] = set()

    def device(self, vm_id: VMId) -> str:
        return f"qvd{vm_id}"

    async def attach(self, vm_id: VMId, nic: Nic) -> None:
        self.attached.add(vm_id)

    async def detach(self, vm_id: VMId) -> None:
        self.attached.discard(vm_id)


@frozen
class Libvirt:
    """A daemon of our own, in a folder of its own."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.folder}/libvirt-sock"

    def start(self) -> None:
        """It is a child of tini, which reaps what it leaves behind."""
        config = self.folder / "libvirtd.conf"
        config.write_text(
            f'unix_sock_dir = "{self.folder}"\nauth_unix_rw = "none"\nunix_sock_group = "root"\n'
            f'log_outputs = "3:file:{self.folder}/libvirtd.log"\n'
        )
        words = ["tini", "-s", "--", "libvirtd", "-f", str(config), "-p", str(self.folder / "pid")]
        subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.folder / "libvirt-sock")

    def signal(self, number: signal.Signals) -> None:
        os.kill(int((self.folder / "pid").read_text()), number)

    def kill(self) -> None:
        """At once. Its QEMUs live on."""
        pid = int((self.folder / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.01)
        (self.folder / "libvirt-sock").unlink()


def wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def prepare_world() -> None:
    """What libvirt's daemon needs around it; to be done once in a private world.

    Its own configuration can lie in only one place, which in a private world is a copy in memory.
    """
    require("libvirtd", "virtlogd", "tini", "qemu-system-x86_64", "qemu-img", "busybox")
    if kernel() is None:
        missing("a kernel for guests (the package linux-image-cloud-amd64 could not be fetched)")
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    if not Path("/run/libvirt/virtlogd-sock").exists():
        Path("/run/libvirt").mkdir(exist_ok=True)
        subprocess.run(["virtlogd", "-d"], check=True)
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


def make_guest(folder: Path) -> None:
    """Kernel, initial root file system, and an image of each kind."""
    source = kernel()
    assert source is not None
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for module in MODULES:
        shutil.copy(source / f"{module}.ko", root)
    (root / "init").write_text(INIT.replace("MODULES", " ".join(MODULES)))
    (root / "init").chmod(0o755)
    subprocess.run("find . | busybox cpio -o -H newc 2>/dev/null >../initrd", shell=True, cwd=root, check=True)
    shutil.copy(source / "vmlinuz", folder)
    (folder / "images").mkdir()
    for kind in KINDS:
        raw = folder / f"{kind}.raw"
        raw.write_bytes(f"{kind}\n".encode().ljust(1 << 20, b"\0"))
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(folder / f"images/{kind}.qcow2")]
        subprocess.run(convert, check=True)


def layout(base: Path, guest: Path, node: str = "n1") -> KvmLayout:
    """@param base: the test's own folder. C{guest}: of L{make_guest}."""
    return KvmLayout(
        run=base / "run",
        images=guest / "images",
        homes=base / "homes",
        overlays=base / "overlays",
        node=node,
        pids=Path("/run/libvirt/qemu"),
        user_storage=64 << 20,
        boot=DirectBoot(str(guest / "vmlinuz"), str(guest / "initrd"), CMDLINE),
    )


def driver_of(chosen: KvmLayout, uri: str, network: INetwork | None = None) -> KvmDriver:
    terms = KvmTerms(uri, VirtType("qemu", "this is a test"), 1)
    return KvmDriver(reactor, chosen, terms, network or LoneBridge())  # type: ignore[arg-type]


def spec(vm_id: int, kind: str) -> VMSpec:
    nic = Nic(f"10.88.0.{vm_id}", 24, f"52:54:00:00:00:{vm_id:02x}")
    return VMSpec(
        VMId(vm_id),
        TenantId(1),
        kind,
        "alice",
        None,
        f"{kind}.qcow2",
        128 << 20,
        f"1/{vm_id}",
        Secret(f"secret of the VM {vm_id}"),
        nic=nic,
    )


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def boot_and_die(base: str, guest: str, uri: str, vm_id: str, kind: str) -> None:
    """A daemon that starts a VM and says so; whoever runs it ends it with KILL."""

    async def boot() -> None:
        driver = driver_of(layout(Path(base), Path(guest)), uri)
        order = spec(int(vm_id), kind)
        await driver.prepare(order, lambda text: None)
        await driver.start(order)
        say("started")

    def failed(failure: Failure) -> None:
        say(failure.getErrorMessage())

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(boot()).addErrback(failed))
    reactor.run()


@contextmanager
def short_folder() -> Iterator[Path]:
    """One in which UNIX sockets have room."""
    folder = Path("/run") / f"kvm-{os.urandom(3).hex()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


if __name__ == "__main__":
    boot_and_die(*sys.argv[1:])
