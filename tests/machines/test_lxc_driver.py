"""The lxc driver with real containers: what they are, what stays of them, what limits them, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve

from qvd.hkd import watchdog_launch
from qvd.hkd.hypervisor import signals as supervised_signals
from qvd.hkd.hypervisor.lxc import launch
from qvd.hkd.hypervisor.lxc.files import LOG_LIMIT
from qvd.hkd.hypervisor.lxc.groups import groups_of, read_hierarchies
from qvd.hkd.hypervisor.pidfd import identify
from qvd.hkd.hypervisor.supervisor import uptime
from qvd.model.errors import DriverError, PermanentError
from qvd.model.ids import VMId
from qvd.model.records import Guest, Persistence
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, pause, until
from tests.machines import containers
from tests.machines.containers import UID_BASE

pytestmark = [pytest.mark.private, pytest.mark.lxc]

NINE = VMId(9)


class Bench:
    """A driver, its storage, and one VM whose guest runs what the test says."""

    def __init__(self, images: Path, base: Path) -> None:
        self.base = base
        self.images = images
        self.layout = containers.layout(base)
        self.spec = containers.spec(9, "script")
        self.gone: list[VMId] = []
        self.home = base / "homes/1/9"
        self.state = base / "run/vms/9"
        self._make()

    def _make(self) -> None:
        self.driver = containers.driver_of(self.layout, self.images, self.base)
        self.driver.watch(self.gone.append)

    def change(self, **changes: Any) -> None:
        self.driver.close()
        self.layout = evolve(self.layout, **changes)
        self._make()

    def own_image(self) -> Path:
        """An image that this test alone has."""
        self.images = self.base / "images"
        containers.make_image(self.images / "busybox", self.layout.owner)
        self.change()
        return self.images / "busybox"

    async def prepare(self) -> None:
        await self.driver.prepare(self.spec, lambda text: None)

    async def boot(self, script: str = "", wait: bool = True) -> Guest:
        """Run a guest until its script is through; it goes on living after that."""
        await self.prepare()
        (self.home / "script").write_text(script)
        (self.home / "booted").unlink(missing_ok=True)
        guest = await self.driver.start(self.spec)
        if wait:
            await until((self.home / "booted").exists)
        return guest

    async def run(self, script: str) -> str:
        """What a guest's script prints; the VM is gone when this returns."""
        await self.boot(f"exec > /home/out 2>&1\n{script}\n")
        await self.end()
        return (self.home / "out").read_text()

    async def end(self) -> None:
        await self.driver.kill(NINE)
        await self.driver.destroy(NINE)

    def pids(self) -> tuple[int, int]:
        """Supervisor and init."""
        state = self.driver._states.read(NINE)
        assert state is not None
        assert state.supervisor is not None
        assert state.init is not None
        return state.supervisor.pid, state.init.pid

    def monitor(self) -> int:
        """liblxc's own process."""
        [child] = psutil.Process(self.pids()[0]).children()
        assert child.name() == "lxc-start"
        return child.pid


@asynchronous_fixture
async def bench(tmp_path: Path, busybox_images: Path) -> AsyncIterator[Bench]:
    made = Bench(busybox_images, tmp_path)
    yield made
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/.qvd/init")
    for found in await made.driver.list():
        await made.driver.kill(found.vm_id)
        await made.driver.destroy(found.vm_id)
    made.driver.close()


@asynchronous
async def test_root_inside_is_nobody_outside(bench: Bench) -> None:
    await bench.boot("exec > /home/out 2>&1; id; cat /proc/self/uid_map")
    assert psutil.Process(bench.pids()[1]).uids().effective == UID_BASE
    out = (bench.home / "out").read_text()
    assert out.startswith("uid=0")
    assert out.split()[-3:] == ["0", str(UID_BASE), "65536"]
    assert (bench.home / "out").stat().st_uid == UID_BASE


@asynchronous
async def test_root_inside_cannot_reach_out(bench: Bench) -> None:
    tries = {
        "devices": "mknod /tmp/disk b 8 0",
        "memory": "mknod /tmp/memory c 1 1",
        "settings": "echo 1 > /proc/sys/kernel/panic",
        "trigger": "echo h > /proc/sysrq-trigger",
        "marker": "echo forged > /.qvd/guest.json",
        "init": "echo forged > /.qvd/init",
        "writable": "mount -o remount,rw,bind /.qvd",
        "shown": "umount /.qvd",
        "home": "umount -l /home",
        "groups": "echo 1 > /sys/kernel/mm/ksm/run",
    }
    out = await bench.run("".join(f"({text}) && echo {name} worked\n" for name, text in tries.items()))
    assert "worked" not in out, out


@asynchronous
async def test_nothing_of_the_host_is_seen(bench: Bench) -> None:
    out = await bench.run("ls /; ls -A /.qvd; cat /proc/mounts; ls /proc/1/root; ps 2>/dev/null; ls /proc | tail -n 90")
    assert str(bench.base / "run") not in out
    assert str(bench.home) not in out
    assert re.findall(r"^\d+$", out, re.MULTILINE), "its own processes are seen"
    assert str(os.getpid()) not in re.findall(r"^\d+$", out, re.MULTILINE)


@asynchronous
async def test_marker(bench: Bench) -> None:
    guest = await bench.boot("cat /.qvd/guest.json > /home/marker; ls -l /.qvd > /home/listed")
    assert json.loads((bench.home / "marker").read_text()) == {
        "driver": "lxc",
        "vm_id": 9,
        "secret": "secret of 9",
        "address": guest.address,
        "vma_port": 3030,
        "display": 100,
        "login": "alice",
        "home": "/home/alice",
        "x_session": None,
    }
    assert (guest.vma_port, guest.x_port) == (3030, 4100)
    assert re.search(r"^-r-------- +1 root +0 .* guest.json$", (bench.home / "listed").read_text(), re.MULTILINE)


@asynchronous
async def test_only_root_inside_reads_the_secret(bench: Bench) -> None:
    out = await bench.run("su alice -c 'id; cat /.qvd/guest.json; ls /.qvd'; su root -c 'cat /.qvd/guest.json'")
    assert "uid=1000" in out
    assert "guest.json: Permission denied" in out.replace("can't open '/.qvd/guest.json'", "guest.json")
    assert out.count("secret of 9") == 1


@asynchronous
async def test_secret_shows_nowhere(bench: Bench) -> None:
    await bench.boot()
    shown = [word for process in psutil.process_iter() for word in process.cmdline()]
    assert "lxc-start" in shown
    assert not [word for word in shown if "secret of 9" in word]
    assert bench.state.stat().st_mode & 0o777 == 0o700
    for path in ("state.json", "files/guest.json"):
        assert (bench.state / path).stat().st_mode & 0o777 == 0o600


@asynchronous
async def test_name_and_files_of_its_own(bench: Bench) -> None:
    out = await bench.run("hostname; cat /etc/hostname /etc/motd; cat /etc/machine-id; ls -ld /home")
    assert out.splitlines()[:3] == ["script", "script", "as delivered"]
    assert "etc/machine-id" in out, "an image that has none gets none"
    assert re.search(r"^drwx--x--x +\d+ root +0 ", out, re.MULTILINE), "its user can pass through /home"


@asynchronous
async def test_network(bench: Bench) -> None:
    guest = await bench.boot("ip address show eth0 > /home/out; (echo hello | nc -l -p 7777) &")
    out = (bench.home / "out").read_text()
    assert bench.spec.nic is not None
    assert f"link/ether {bench.spec.nic.mac}" in out
    assert f"inet {bench.spec.nic.address}/16" in out
    assert os.readlink("/sys/class/net/qvdtest9/master").endswith("/qvdtest")
    await until(lambda: answers(guest.address))


def answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 7777), 1.0) as connection:
            return connection.recv(100) == b"hello\n"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("persistence", "kept"),
    [(Persistence.NOTHING, ""), (Persistence.HOME, "home\n"), (Persistence.EVERYTHING, "home\nroot\n")],
)
@asynchronous
async def test_what_stays(bench: Bench, persistence: Persistence, kept: str) -> None:
    """Of what the first run has written, the second one finds this; its image is as it was."""
    image = bench.own_image()
    script = "cat /home/kept /etc/kept; echo home > /home/kept; echo root > /etc/kept; echo root > /etc/motd; echo end"
    (image / "sbin/init").write_text(f"#!/bin/sh\n({script}) > /dev/console 2> /dev/null\nwhile :; do sleep 1; done\n")
    console = bench.state / "console.log"
    bench.spec = evolve(bench.spec, persistence=persistence)
    said = []
    for _ in range(2):
        await bench.prepare()
        await bench.driver.start(bench.spec)
        await until(lambda: "end" in console.read_text())
        said.append(console.read_text().replace("\r", ""))
        await bench.end()
    assert said == ["end\n", f"{kept}end\n"]
    assert (image / "etc/motd").read_text() == "as delivered\n"
    assert bench.home.exists() is (persistence is not Persistence.NOTHING)


@asynchronous
async def test_memory_is_limited(bench: Bench) -> None:
    out = await bench.run("dd if=/dev/zero of=/dev/null bs=200M count=1; echo status $?")
    assert "status 137" in out


@asynchronous
async def test_processes_are_limited(bench: Bench) -> None:
    bench.change(pids=30)
    out = await bench.run("(for i in 1 2 3 4 5 6 7 8 9; do (sleep 9 & sleep 9 & sleep 9 & sleep 9 & sleep 9) & done)")
    assert "can't fork" in out


@asynchronous
async def test_processors_are_limited(bench: Bench) -> None:
    bench.spec = evolve(bench.spec, cpus=0.5)
    await bench.boot()
    assert (payload(bench, "cpu") / "cpu.cfs_quota_us").read_text() == "50000\n"


def payload(bench: Bench, controller: str) -> Path:
    """The container's control group."""
    groups = groups_of(bench.driver._files.name(NINE))
    [group] = [group for group in groups if group.parent.name == controller and group.name.startswith("lxc.payload.")]
    return group


@asynchronous
async def test_only_listed_devices(bench: Bench) -> None:
    await bench.boot()
    allowed = (payload(bench, "devices") / "devices.list").read_text().splitlines()
    assert "c 1:3 rwm" in allowed
    assert "a *:* rwm" not in allowed


@asynchronous
async def test_nothing_shows_in_the_nodes_mounts(bench: Bench) -> None:
    await bench.boot()
    assert str(bench.base) not in mounts()
    assert list((bench.base / "layers/9/merged").iterdir()) == []
    assert "root" not in os.listdir("/run/lxc")


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


@asynchronous
async def test_end_of_init(bench: Bench) -> None:
    await bench.boot()
    os.kill(bench.pids()[1], signal.SIGKILL)
    await until(lambda: bench.gone == [NINE])


@asynchronous
async def test_end_of_liblxc(bench: Bench) -> None:
    await bench.boot()
    init = bench.pids()[1]
    os.kill(bench.monitor(), signal.SIGKILL)
    await until(lambda: bench.gone == [NINE])
    assert identify(init) is None
    await bench.driver.destroy(NINE)
    await bench.boot()


@asynchronous
async def test_end_of_supervisor(bench: Bench) -> None:
    """Nothing runs on without supervision."""
    await bench.boot()
    supervisor, init = bench.pids()
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: bench.gone == [NINE])
    assert identify(init) is None
    await bench.driver.destroy(NINE)
    await bench.boot()


def like_systemd(image: Path) -> None:
    init, program = image / "sbin/init", image / "lib/systemd/systemd"
    program.parent.mkdir(parents=True)
    init.rename(program)
    program.write_text(program.read_text().replace(" PWR", " 37"))
    init.symlink_to("/lib/systemd/systemd")


def like_busybox(image: Path) -> None:
    (image / "sbin/init").unlink()
    (image / "sbin/init").symlink_to("../bin/busybox")
    (image / "etc/inittab").write_text("::sysinit:/bin/busybox touch /home/booted\n")


@pytest.mark.parametrize("change", [like_systemd, like_busybox])
@asynchronous
async def test_each_init_hears_what_it_heeds(bench: Bench, change: Callable[[Path], None]) -> None:
    change(bench.own_image())
    await bench.boot()
    await bench.driver.shutdown(NINE)
    await until(lambda: bench.gone == [NINE])


@asynchronous
async def test_reboot(bench: Bench) -> None:
    """The container begins anew, and can be killed as before."""
    script = "echo again >> /home/boots; [ $(wc -l < /home/boots) = 2 ] || reboot -f"
    await bench.boot(script)
    assert (bench.home / "boots").read_text() == "again\nagain\n"
    init = bench.pids()[1]
    assert identify(init) is not None
    assert bench.gone == []
    await bench.end()
    assert identify(init) is None


@asynchronous
async def test_console_is_logged_within_bounds(bench: Bench) -> None:
    lines = 50_000
    await bench.boot(f'i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo "$i {"x" * 60}"; done > /dev/console')
    await until(lambda: f"\n{lines} x" in (bench.state / "console.log").read_text())
    sizes = [path.stat().st_size for path in bench.state.glob("console.log*")]
    assert len(sizes) == 2
    assert max(sizes) <= 1 << 20
    assert (bench.state / "agent.log").stat().st_size < LOG_LIMIT


@asynchronous
async def test_own_session(bench: Bench) -> None:
    """A signal to the daemon's group or terminal does not reach it."""
    await bench.boot()
    supervisor, init = bench.pids()
    assert os.getsid(supervisor) == supervisor
    assert os.getsid(init) not in (os.getsid(0), 0)


@asynchronous
async def test_watchdog(bench: Bench) -> None:
    """The deadline has passed: it kills until nothing is left."""
    await bench.boot()
    supervisor, init = bench.pids()
    daemon = watchdog_launch.identify(os.getpid())
    assert daemon is not None
    promise = watchdog_launch.Promise(watchdog_launch.boot_id(), 1, 0.0, daemon)
    log = watchdog_launch.Log(str(bench.base / "watchdog.log"))
    signals = supervised_signals.signals
    watchdog = watchdog_launch.Watchdog(str(bench.layout.run), signals, promise, watchdog_launch.uptime, log)
    assert watchdog.look() is watchdog_launch.Verdict.KILL
    await until(lambda: watchdog.look() is watchdog_launch.Verdict.WAIT)
    assert [pid for pid in (supervisor, init) if identify(pid)] == []
    await until(lambda: bench.gone == [NINE])


@asynchronous
async def test_nothing_is_started_once_the_lease_is_over(bench: Bench) -> None:
    lease = bench.base / "lease.json"
    lease.write_text('{"until": 0}')
    bench.change(lease=lease)
    with pytest.raises(PermanentError, match="VM 9 could not be started: the lease of this node is over"):
        await bench.boot()
    lease.write_text('{"until": 1e12}')
    await bench.boot()


@asynchronous
async def test_a_container_ends_with_the_lease_though_nobody_is_there_to_end_it(bench: Bench) -> None:
    lease = bench.base / "lease.json"
    lease.write_text(json.dumps({"until": uptime() + 2.0}))
    bench.change(lease=lease)
    await bench.boot()
    await until(lambda: bench.gone == [NINE])
    assert "nobody else has ended this VM" in (bench.state / "agent.log").read_text()


@asynchronous
async def test_never_twice(bench: Bench) -> None:
    """Another node with the same storage, which does not know of the first."""
    await bench.boot()
    other = containers.driver_of(evolve(bench.layout, run=bench.base / "other"), bench.images, bench.base / "node2")
    with pytest.raises(PermanentError, match="The home of VM 9 is in use by another process"):
        await other.start(bench.spec)
    await other.destroy(NINE)
    assert identify(bench.pids()[1]) is not None
    await bench.end()
    await other.start(bench.spec)
    await other.kill(NINE)
    await other.destroy(NINE)
    other.close()


@asynchronous
async def test_daemon_killed_in_the_middle_of_a_start(bench: Bench) -> None:
    """At whatever moment: its successor kills and destroys, and nothing is left."""
    await bench.boot()
    await bench.end()
    before = traces(bench)
    for step in range(9):
        daemon = daemon_about_to_start(bench)
        await pause(step * 0.016)
        daemon.kill()
        daemon.communicate()
        bench.change()
        await bench.end()
        assert list(await bench.driver.list()) == []
    await until(lambda: traces(bench) == before)


def daemon_about_to_start(bench: Bench) -> subprocess.Popen[str]:
    """A process that has prepared the VM and starts it."""
    words = [sys.executable, "-m", "tests.machines.containers", str(bench.images), str(bench.base), "9", "runs"]
    daemon = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "prepared\n"
    return daemon


def traces(bench: Bench) -> object:
    """All that containers could leave on the machine, but the home."""
    files = {str(path) for part in ("run/vms", "layers") for path in bench.base.glob(f"{part}/*")}
    groups = {str(path) for place, _ in read_hierarchies() for path in place.glob("lxc.*")}
    running = [process.pid for process in psutil.process_iter() if process.name() in ("lxc-start", "init", "sh")]
    links = {name for _, name in socket.if_nameindex()}
    return files, groups, running, links, mounts()


@asynchronous
async def test_no_user_namespace(bench: Bench) -> None:
    bench.change(userns=False)
    bench.own_image()
    out = await bench.run("cat /proc/self/uid_map; mknod /tmp/disk b 8 0; echo status $?")
    assert out.split()[:3] == ["0", "0", "4294967295"]
    assert out.endswith("status 1\n"), "the devices it may make are few"


@asynchronous
async def test_administrators_lines(bench: Bench) -> None:
    extra = bench.base / "extra"
    extra.write_text(
        "# ours\nlxc.environment = COLOR=green\nlxc.mount.entry = /usr/bin mnt none bind,create=dir,ro 0 0\n"
    )
    bench.change(extra=extra)
    out = await bench.run("echo $COLOR; ls /mnt/lxc-start")
    assert out == "green\n/mnt/lxc-start\n"


@asynchronous
async def test_liblxcs_complaint(bench: Bench) -> None:
    """It becomes the sentence of the failed start."""
    extra = bench.base / "extra"
    extra.write_text("lxc.mount.entry = /absent mnt none bind 0 0\n")
    bench.change(extra=extra)
    with pytest.raises(PermanentError, match=r"VM 9 could not be started: .*/absent"):
        await bench.boot()


def no_shell(bench: Bench) -> None:
    (bench.own_image() / "bin/sh").unlink()


def no_init(bench: Bench) -> None:
    (bench.own_image() / "sbin/init").unlink()


def init_outside(bench: Bench) -> None:
    init = bench.own_image() / "sbin/init"
    init.unlink()
    init.symlink_to("../../../../../../../../usr/bin/lxc-start")


def linked_own_folder(bench: Bench) -> None:
    (bench.own_image() / ".qvd").symlink_to("/etc")


def linked_home(bench: Bench) -> None:
    image = bench.own_image()
    (image / "home").rmdir()
    (image / "home").symlink_to("/etc")


def owned_by_root(bench: Bench) -> None:
    os.chown(bench.own_image(), 0, 0)


def init_on_the_host(bench: Bench) -> None:
    Path("/.qvd").mkdir()
    Path("/.qvd/init").symlink_to("/sbin/init")


def bad_line(bench: Bench) -> None:
    (bench.base / "extra").write_text("\nlxc.rootfs.path = dir:/\n")
    bench.change(extra=bench.base / "extra")


def no_extra(bench: Bench) -> None:
    bench.change(extra=bench.base / "absent")


def other_ids(bench: Bench) -> None:
    bench.change(uid_base=3_000_000)


def somebodys_home(bench: Bench) -> None:
    bench.home.mkdir(parents=True)


def no_address(bench: Bench) -> None:
    bench.spec = evolve(bench.spec, nic=None)


def bad_login(bench: Bench) -> None:
    bench.spec = evolve(bench.spec, login="root")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_shell, "the image has no program /bin/sh"),
        (no_init, "the image has no program /sbin/init"),
        (init_outside, "the image has no program /sbin/init"),
        (linked_own_folder, "Not a directory"),
        (linked_home, "Not a directory"),
        (owned_by_root, f"the image's files belong to user id 0, not to {UID_BASE}"),
        (init_on_the_host, "the node itself has a file /.qvd/init"),
        (bad_line, "extra, line 2: lxc.rootfs.path belongs to QVD"),
        (no_extra, "absent: .*No such file"),
        (other_ids, "add the line root:3000000:65536 to /etc/subuid"),
        (somebodys_home, f"The home 1/9 belongs to user id 0, not to {UID_BASE}"),
        (no_address, "VM 9 has no address in the VM network"),
        (bad_login, "The login 'root' cannot be the name"),
    ],
)
@asynchronous
async def test_refused(bench: Bench, make: Callable[[Bench], None], sentence: str) -> None:
    make(bench)
    with pytest.raises(DriverError, match=sentence):
        await bench.boot(wait=False)
    assert not any(process.name() == "lxc-start" for process in psutil.process_iter())
    assert not (bench.state / "console.log").exists(), "liblxc was not even asked"


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A configuration, and a root file system at its place, as they should be."""
    root = Path(launch.ROOT)
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "root", str(root)], check=True)
    for name in (".qvd/init", ".qvd/guest.json", "bin/sh"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch(0o755)
    config = tmp_path / "config"
    config.write_text(f"lxc.rootfs.path = dir:{root}\n")
    yield config
    subprocess.run(["umount", str(root)], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(root)


def not_mounted(config: Path) -> None:
    """What is there instead looks right."""
    root = Path(launch.ROOT)
    subprocess.run(["umount", str(root)], check=True)
    for name in (".qvd/init", ".qvd/guest.json", "bin/sh"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch(0o755)


def no_marker(config: Path) -> None:
    Path(launch.ROOT, ".qvd/guest.json").unlink()


def linked_init(config: Path) -> None:
    init = Path(launch.ROOT, ".qvd/init")
    init.unlink()
    init.symlink_to("/sbin/init")


def another_root(config: Path) -> None:
    config.write_text("lxc.rootfs.path =\n")


def test_a_root_as_it_should_be(config: Path) -> None:
    launch.check_root(str(config))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (not_mounted, "the root file system is not mounted"),
        (no_marker, "the root file system lacks /.qvd/guest.json"),
        (linked_init, "the root file system lacks /.qvd/init"),
        (another_root, "the configuration does not name the root file system"),
    ],
)
def test_a_root_that_is_not(config: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(config)
    with pytest.raises(OSError, match=sentence):
        launch.check_root(str(config))
