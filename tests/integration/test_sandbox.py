"""The sandbox driver with real guests: what they see, what stays, what does not, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from qvd.hkd import watchdog_launch
from qvd.hkd.hypervisor import signals as supervised_signals
from qvd.hkd.hypervisor.pidfd import ProcessId, identify
from qvd.hkd.hypervisor.sandbox.files import LOG_LIMIT
from qvd.hkd.hypervisor.sandbox.root import parents
from qvd.hkd.hypervisor.supervisor import uptime
from qvd.model.errors import DriverError, PermanentError
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, VMSpec
from tests.conftest import require
from tests.contract import sandbox_vms
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, spawn, until

NINE = VMId(9)
ROOT = os.geteuid() == 0
PROJECT = Path(__file__).resolve().parents[2]


class Bench:
    """A driver, its storage, and one VM whose guest runs what the test says."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.layout = sandbox_vms.layout(base)
        self.driver = sandbox_vms.driver_of(self.layout)
        self.gone: list[VMId] = []
        self.driver.watch(self.gone.append)
        self.home = base / "homes/1/9"

    def change(self, **changes: Any) -> None:
        self.driver.close()
        self.layout = evolve(self.layout, **changes)
        self.driver = sandbox_vms.driver_of(self.layout)
        self.driver.watch(self.gone.append)

    async def prepare(self, spec: VMSpec) -> list[str]:
        told: list[str] = []
        await self.driver.prepare(spec, told.append)
        return told

    async def boot(self, script: str = "", image: str = "", wait: bool = True) -> Guest:
        """Run a guest until its script is through; it goes on living after that."""
        spec = sandbox_vms.spec(9, "script", image)
        await self.prepare(spec)
        (self.home / "script").write_text(script)
        (self.home / "script").chmod(0o644)
        (self.home / "booted").unlink(missing_ok=True)
        guest = await self.driver.start(spec)
        if wait:
            await until((self.home / "booted").exists)
        return guest

    async def run(self, script: str, image: str = "") -> str:
        """What a guest's script prints to C{out}; the VM is gone when this returns."""
        await self.boot(f"exec > out 2>&1\n{script}\n", image)
        await self.end()
        return (self.home / "out").read_text()

    async def end(self) -> None:
        await self.driver.kill(NINE)
        await self.driver.destroy(NINE)

    def log(self) -> str:
        return (self.base / "run/vms/9/agent.log").read_text()

    def pids(self) -> tuple[int, int]:
        """Supervisor and init."""
        state = self.driver._states.read(NINE)
        assert state is not None
        assert state.supervisor is not None
        assert state.init is not None
        return state.supervisor.pid, state.init.pid


@asynchronous_fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    require("bwrap", "setpriv")
    made = Bench(tmp_path)
    yield made
    for found in await made.driver.list():
        await made.driver.kill(found.vm_id)
        await made.driver.destroy(found.vm_id)
    made.driver.close()


@asynchronous
async def test_guest_user(bench: Bench) -> None:
    """One user, without a way to become another."""
    uid = sandbox_vms.UID_BASE + 9
    out = await bench.run("id; cat /proc/self/status; cat /etc/passwd; pwd; ls -ld . /.qvd/guest.json")
    assert f"uid={uid}(alice) gid={uid}(alice) groups={uid}(alice)" in out
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{name}:\s+0+$", out, re.MULTILINE), name
    assert re.search(r"^NoNewPrivs:\s+1$", out, re.MULTILINE)
    assert re.search(r"^Groups:\s*$", out, re.MULTILINE)
    assert [line.split(":")[0] for line in out.splitlines() if line.count(":") == 6] == ["root", "nobody", "alice"]
    assert "\n/home/alice\n" in out
    assert re.search(r"^drwx------ .* alice +alice .* \.$", out, re.MULTILINE)
    assert re.search(r"^-rw------- .* alice +alice .* /.qvd/guest.json$", out, re.MULTILINE)


@asynchronous
async def test_host_side_user(bench: Bench) -> None:
    await bench.boot()
    _, init = bench.pids()
    [agent] = psutil.Process(init).children()
    wanted = sandbox_vms.UID_BASE + 9 if ROOT else os.geteuid()
    assert agent.uids().effective == agent.uids().real == wanted
    assert bench.home.stat().st_uid == wanted
    assert bench.home.stat().st_mode & 0o777 == 0o700


@asynchronous
async def test_namespaces(bench: Bench) -> None:
    await bench.boot("cat /proc/sys/kernel/hostname > name")
    _, init = bench.pids()
    for name, shared in (("pid", False), ("ipc", False), ("uts", False), ("mnt", False), ("net", True)):
        same = os.readlink(f"/proc/{init}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
        assert same is shared, name
    assert (bench.home / "name").read_text() == "script\n"


@asynchronous
async def test_marker(bench: Bench) -> None:
    session = bench.base / "session"
    session.write_bytes(b"#!/bin/sh\n# \xff\n")
    bench.change(x_session=session)
    guest = await bench.boot(
        "cat /.qvd/guest.json > marker; ls -l /.qvd/x-session > listed; cat /.qvd/x-session > copy"
    )
    assert json.loads((bench.home / "marker").read_text()) == {
        "driver": "sandbox",
        "vm_id": 9,
        "secret": "secret of 9",
        "address": "127.0.0.1",
        "vma_port": guest.vma_port,
        "display": guest.x_port - 4000,
        "login": "alice",
        "home": "/home/alice",
        "x_session": "/.qvd/x-session",
    }
    assert (bench.home / "listed").read_text().startswith("-rwxr-xr-x ")
    assert (bench.home / "copy").read_bytes() == session.read_bytes()


@asynchronous
async def test_home_stays_the_rest_does_not(bench: Bench) -> None:
    write = "for file in kept /etc/new /usr/new /var/tmp/new /tmp/new /new; do echo written > $file; done"
    await bench.run(write)
    assert (bench.home / "kept").read_text() == "written\n"
    out = await bench.run("cat kept; ls /etc/new /usr/new /var/tmp/new /tmp/new /new")
    assert out.startswith("written\n")
    assert out.count("cannot access") == 5
    for folder in ("/etc", "/usr", "/"):
        assert "new" not in os.listdir(folder)


@asynchronous
async def test_host_is_not_shown(bench: Bench) -> None:
    """Nothing of the host's but programs and harmless settings; of the project nothing but the code."""
    out = await bench.run("cat /etc/shadow; ls /etc/ssh /etc/ssl /root /sys /work /home; ls /.qvd/lib /.qvd/lib/qvd")
    assert "/etc/shadow: No such file" in out
    assert "/etc/ssh': No such file" in out
    assert "private" not in out
    assert "/sys': No such file" in out
    assert "hkd" in out
    listed = await bench.run(f"ls -a {PROJECT}")
    assert ".git" not in listed
    assert "setup.cfg" not in listed


@asynchronous
async def test_secret_shows_nowhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "canary")
    await bench.boot("exec > out 2>&1; cat /proc/*/cmdline /proc/*/environ")
    out = (bench.home / "out").read_text()
    assert "HOME=/home/alice" in out
    assert "canary" not in out
    assert str(bench.base) not in out
    assert b"secret of 9" not in out.encode() + shown_by_processes()
    private = bench.base / "run/vms/9"
    assert private.stat().st_mode & 0o777 == 0o700
    for path in ("state.json", "files/guest.json"):
        assert (private / path).stat().st_mode & 0o777 == 0o600


def shown_by_processes() -> bytes:
    """Command lines and environments of all processes that we may look at."""
    shown = b""
    for path in (path for name in ("cmdline", "environ") for path in Path("/proc").glob(f"[0-9]*/{name}")):
        with contextlib.suppress(OSError):
            shown += path.read_bytes()
    return shown


@contextlib.contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with VMs, and must live to the end."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield process
            assert process.poll() is None
        finally:
            process.kill()


@asynchronous
async def test_descriptors(bench: Bench) -> None:
    """The agent gets no descriptor of ours, init only the home's lock."""
    await bench.boot()
    _, init = bench.pids()
    [agent] = psutil.Process(init).children()
    assert {int(name) for name in os.listdir(f"/proc/{agent.pid}/fd")} <= {0, 1, 2, 10}
    held = {os.readlink(f"/proc/{init}/fd/{name}") for name in os.listdir(f"/proc/{init}/fd")}
    assert f"{bench.home}.lock" in held
    assert not [link for link in held if "socket" in link or "eventpoll" in link]


@asynchronous
async def test_signals_are_as_programs_expect(bench: Bench) -> None:
    out = await bench.run("cat /proc/self/status")
    ignored = re.search(r"^SigIgn:\s+(\S+)$", out, re.MULTILINE)
    blocked = re.search(r"^SigBlk:\s+(\S+)$", out, re.MULTILINE)
    assert ignored is not None
    assert blocked is not None
    # What ran the tests may have left the C library's own two signals ignored: no program can set or unset those.
    own = 1 << 31 | 1 << 32
    assert (int(ignored[1], 16) & ~own, int(blocked[1], 16)) == (0, 0)


@asynchronous
async def test_image(bench: Bench) -> None:
    image = bench.base / "images/desk"
    sandbox_vms.make_image(image)
    before = sorted(str(path) for path in image.rglob("*"))
    out = await bench.run("cat /etc/motd /etc/passwd; id; echo changed > /var-new; ls /.qvd", "desk")
    assert out.startswith("as delivered\n")
    assert "daemon:x:1:1" in out
    assert "joe:" not in out
    assert f"uid={sandbox_vms.UID_BASE + 9}(alice)" in out
    assert "guest.json" in out
    assert sorted(str(path) for path in image.rglob("*")) == before
    assert os.listdir(bench.base / "overlays") == []


@asynchronous
async def test_image_is_thrown_away(bench: Bench) -> None:
    """Also what root would write: the guest's user owns a folder of the image here."""
    image = bench.base / "images/desk"
    sandbox_vms.make_image(image)
    (image / "srv").mkdir(mode=0o777)
    (image / "srv").chmod(0o777)
    (image / "srv/old").write_text("as delivered\n")
    (image / "srv/old").chmod(0o666)
    write = "echo new > /srv/new; echo changed > /srv/old; cat /srv/new /srv/old"
    assert await bench.run(write, "desk") == "new\nchanged\n"
    assert await bench.run("ls /srv; cat /srv/old", "desk") == "old\nas delivered\n"
    assert (image / "srv/old").read_text() == "as delivered\n"


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


@asynchronous
async def test_overlay_shows_nowhere_else(bench: Bench) -> None:
    sandbox_vms.make_image(bench.base / "images/desk")
    await bench.boot("", "desk")
    assert str(bench.base) not in mounts()
    assert os.listdir(bench.base / "overlays/9/merged") == []


@asynchronous
async def test_images_agent_and_configuration(bench: Bench) -> None:
    """An image's own agent is used, with its own configuration file."""
    image = bench.base / "images/desk"
    sandbox_vms.make_image(image)
    (image / "usr/bin/nxagent").write_text("")
    agent = image / "usr/bin/qvd-vma"
    agent.write_text('#!/bin/sh\necho "$@" > said\n: > booted\nexec sleep 1000\n')
    agent.chmod(0o755)
    (image / "etc/qvd").mkdir()
    (image / "etc/qvd/vma.conf").write_text("")
    bench.change(command=None)
    await bench.boot("", "desk")
    assert (bench.home / "said").read_text() == "--config /etc/qvd/vma.conf\n"


@asynchronous
async def test_hosts_python_runs_in_the_guest(bench: Bench) -> None:
    """With our code and Twisted's plugins, wherever they lie on the host and whoever may go there."""
    program = (
        "import qvd.interfaces, twisted.plugin, twisted.plugins, sys; print(*twisted.plugins.__path__, qvd.__path__)"
    )
    words = (bench.layout.python.executable, "-P", "-c", f"{program}; open('booted', 'w')")
    bench.change(command=words)
    await bench.boot("")
    await until(lambda: bench.gone == [NINE])
    assert "/.qvd/lib/twisted/plugins" in bench.log()
    assert "['/.qvd/lib/qvd']" in bench.log()


@asynchronous
async def test_nxagent_starts(bench: Bench) -> None:
    """The X server finds all it needs."""
    require("nxagent")
    spec = sandbox_vms.spec(9, "script")
    await bench.prepare(spec)
    display = '$(sed "s/.*display.: //; s/,.*//" /.qvd/guest.json)'
    options = "nx/nx,link=lan,keyboard=pc105/us,client=linux,geometry=640x480,loopback=1"
    run = f'D={display}; echo "{options}:$D" > nx.conf; exec nxagent -ac -display nx/nx,options=nx.conf:$D :$D'
    bench.change(command=("sh", "-c", run))
    await bench.driver.start(spec)
    await until(lambda: "Waiting for connection" in bench.log() or bool(bench.gone))
    assert bench.gone == [], bench.log()


@asynchronous
async def test_log_is_bounded(bench: Bench) -> None:
    """A guest that prints without end costs time and nothing else; the newest is kept."""
    lines = 3 * LOG_LIMIT // 64
    await bench.boot(f'i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo "$i {"x" * 60}"; done')
    await until(lambda: f"\n{lines} x" in bench.log())
    folder = bench.base / "run/vms/9"
    sizes = {path.name: path.stat().st_size for path in folder.glob("agent.log*")}
    assert set(sizes) == {"agent.log", "agent.log.1"}
    assert max(sizes.values()) <= LOG_LIMIT


@asynchronous
async def test_own_session(bench: Bench) -> None:
    """A signal to the daemon's group or terminal does not reach it."""
    await bench.boot()
    supervisor, init = bench.pids()
    assert os.getsid(supervisor) == supervisor
    assert os.getsid(init) not in (os.getsid(0), 0)


@asynchronous
async def test_supervisor_killed(bench: Bench) -> None:
    """Nothing runs on without supervision."""
    await bench.boot()
    supervisor, init = bench.pids()
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: bench.gone == [NINE])
    assert identify(init) is None
    await bench.driver.destroy(NINE)
    await bench.boot()


@asynchronous
async def test_everything_in_the_guest_ends(bench: Bench) -> None:
    await bench.boot("(trap '' TERM HUP; sleep 1000 & sleep 1000) &\nsleep 1000 &")
    _, init = bench.pids()
    inside = [process.pid for process in psutil.Process(init).children(recursive=True)]
    assert len(inside) >= 4
    await bench.driver.kill(NINE)
    assert [pid for pid in inside if identify(pid) is not None] == []


@asynchronous
async def test_never_another_process_of_that_number(bench: Bench) -> None:
    """What is stored names processes that have ended; the numbers are somebody else's now."""
    await bench.boot()
    state = bench.driver._states.read(NINE)
    assert state is not None
    await bench.driver.kill(NINE)
    with bystander() as other:
        for started in (0, -1):
            pretended = ProcessId(other.pid, started)
            bench.driver._states.write(evolve(state, supervisor=pretended))
            (bench.base / "run/vms/9/init.json").write_text(json.dumps({"pid": other.pid, "started": started}))
            assert list(await bench.driver.list()) == [Domain(NINE, False, None)]
            await bench.driver.shutdown(NINE)
            await bench.driver.kill(NINE)
        await bench.driver.destroy(NINE)


@asynchronous
async def test_machine_was_restarted(bench: Bench) -> None:
    """The very same numbers, of another uptime: leftovers."""
    with bystander() as other:
        await bench.boot()
        state = bench.driver._states.read(NINE)
        assert state is not None
        await bench.driver.kill(NINE)
        bench.driver._states.write(evolve(state, boot="another", supervisor=identify(other.pid), init=None))
        assert list(await bench.driver.list()) == [Domain(NINE, False, None)]
        await bench.end()


@asynchronous
async def test_home_in_use(bench: Bench) -> None:
    """A second line against running twice: another node's daemon has the VM, on the same storage."""
    await bench.boot()
    elsewhere = evolve(bench.layout, run=bench.base / "run2", overlays=bench.base / "overlays2")
    other = sandbox_vms.driver_of(elsewhere)
    spec = sandbox_vms.spec(9, "script")
    await other.prepare(spec, lambda text: None)
    with pytest.raises(PermanentError, match="The home of VM 9 is in use by another process"):
        await other.start(spec)
    await bench.end()
    await other.start(spec)
    await other.kill(NINE)
    other.close()


@asynchronous
async def test_bubblewrap_fails(bench: Bench) -> None:
    """Its own words say why, and the VM can be started when that is cured."""
    spec = sandbox_vms.spec(9, "runs")
    await bench.prepare(spec)
    bench.home.rename(bench.base / "away")
    with pytest.raises(DriverError, match=r"VM 9 could not be started: bwrap: .*No such file"):
        await bench.driver.start(spec)
    (bench.base / "away").rename(bench.home)
    await bench.driver.start(spec)


@asynchronous
async def test_overlay_fails(bench: Bench) -> None:
    sandbox_vms.make_image(bench.base / "images/desk")
    spec = sandbox_vms.spec(9, "runs", "desk")
    await bench.prepare(spec)
    shutil.rmtree(bench.base / "images/desk")
    with pytest.raises(PermanentError, match=r"VM 9 could not be started: .*desk"):
        await bench.driver.start(spec)


def pretend(bench: Bench, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another program for bubblewrap."""
    folder = bench.base / "bin"
    folder.mkdir()
    (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@asynchronous
async def test_bubblewrap_leaves_its_child(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does when it fails between clone and set-up: the child would hold home and log for ever."""
    spec = sandbox_vms.spec(9, "runs")
    await bench.prepare(spec)
    with monkeypatch.context() as patch:
        pretend(bench, patch, "sleep 1000 &\necho bwrap: broken >&2; exit 1")
        with pytest.raises(PermanentError, match="VM 9 could not be started: bwrap: broken"):
            await bench.driver.start(spec)
    await bench.driver.start(spec)


@asynchronous
async def test_bubblewrap_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has an init that could be killed."""
    spec = sandbox_vms.spec(9, "runs")
    await bench.prepare(spec)
    with monkeypatch.context() as patch:
        pretend(bench, patch, "echo hanging; exec sleep 1000")
        starting = spawn(bench.driver.start(spec))
        starting.addErrback(cancelled)
        await until(lambda: (bench.base / "run/vms/9/agent.log").exists() and bench.log())
        starting.cancel()
        await bench.end()
    await bench.driver.start(spec)


def cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]


async def watch_over(bench: Bench) -> None:
    """The deadline has passed: as the watchdog does, until nothing is left."""
    daemon = watchdog_launch.identify(os.getpid())
    assert daemon is not None
    promise = watchdog_launch.Promise(watchdog_launch.boot_id(), 1, 0.0, daemon)
    log = watchdog_launch.Log(str(bench.base / "watchdog.log"))
    run = str(bench.layout.run)
    watchdog = watchdog_launch.Watchdog(run, supervised_signals.signals, promise, watchdog_launch.uptime, log)
    assert watchdog.look() is watchdog_launch.Verdict.KILL
    await until(lambda: watchdog.look() is watchdog_launch.Verdict.WAIT)


@asynchronous
async def test_watchdog(bench: Bench) -> None:
    await bench.boot()
    supervisor, init = bench.pids()
    inside = [process.pid for process in psutil.Process(init).children(recursive=True)]
    assert inside
    await watch_over(bench)
    assert [pid for pid in (supervisor, init, *inside) if identify(pid)] == []
    await until(lambda: bench.gone == [NINE])


@asynchronous
async def test_watchdog_before_there_is_an_init(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = sandbox_vms.spec(9, "runs")
    await bench.prepare(spec)
    with monkeypatch.context() as patch:
        pretend(bench, patch, "echo hanging; sleep 1000")
        starting = spawn(bench.driver.start(spec))
        await until(lambda: (bench.base / "run/vms/9/agent.log").exists() and bench.log())
        await watch_over(bench)
        with pytest.raises(PermanentError, match="VM 9 could not be started"):
            await starting
    # All that was being set up is gone, so the home is free.
    await bench.driver.start(spec)


@asynchronous
async def test_nothing_is_started_once_the_lease_is_over(bench: Bench) -> None:
    lease = bench.base / "lease.json"
    lease.write_text('{"until": 0}')
    bench.change(lease=lease)
    spec = sandbox_vms.spec(9, "runs")
    await bench.prepare(spec)
    with pytest.raises(PermanentError, match="VM 9 could not be started: the lease of this node is over"):
        await bench.driver.start(spec)
    lease.write_text('{"until": 1e12}')
    await bench.driver.start(spec)


@asynchronous
async def test_a_vm_ends_with_the_lease_though_nobody_is_there_to_end_it(bench: Bench) -> None:
    lease = bench.base / "lease.json"

    def promise(seconds: float) -> float:
        ends = uptime() + seconds
        lease.with_suffix(".new").write_text(json.dumps({"until": ends}))
        lease.with_suffix(".new").rename(lease)
        return ends

    first = promise(3.0)
    bench.change(lease=lease)
    await bench.boot()
    last = promise(5.0)
    await until(lambda: uptime() > first + 1)
    assert not bench.gone, "what was promised later counts"
    lease.unlink()
    await until(lambda: bench.gone == [NINE])
    assert uptime() > last, "a file that is gone ends nothing"
    assert "nobody else has ended this VM" in bench.log()


def lacking(name: str) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        sandbox_vms.make_image(bench.base / "images/desk")
        (bench.base / "images/desk/usr/bin/nxagent").write_text("")
        (bench.base / "images/desk" / name).unlink()
        bench.change(command=None)

    return make


def no_host_files(bench: Bench) -> None:
    bench.change(host_files=False)


def no_session(bench: Bench) -> None:
    bench.change(x_session=bench.base / "absent")


def linked_home(bench: Bench) -> None:
    (bench.base / "homes/1").mkdir(parents=True)
    bench.home.symlink_to("/usr")


def linked_parent(bench: Bench) -> None:
    (bench.base / "homes").mkdir()
    (bench.base / "homes/1").symlink_to("/usr")


def linked_image(bench: Bench) -> None:
    (bench.base / "images").mkdir()
    (bench.base / "images/desk").symlink_to("/")


def nothing(bench: Bench) -> None:
    """The spec alone is wrong."""


@pytest.mark.parametrize(
    ("make", "changes", "sentence"),
    [
        (no_host_files, {}, "VM 9 has no disk image, and this node does not boot from its own files"),
        (no_session, {}, "The session program .*absent does not exist"),
        (nothing, {"image": "desk"}, "The image desk does not exist on this node"),
        (nothing, {"image": "../desk"}, "is not the name of an image"),
        (nothing, {"image": ".."}, "is not one below a storage folder"),
        (linked_image, {"image": "desk"}, "The image desk does not exist on this node"),
        (lacking("usr/bin/nxagent"), {"image": "desk"}, "The image desk lacks usr/bin/nxagent"),
        (nothing, {"login": "../alice"}, "The login '../alice' cannot be the name of a Unix account"),
        (nothing, {"login": "root"}, "The login 'root' cannot be the name of a Unix account"),
        (nothing, {"home": "../9"}, "is not one below a storage folder"),
        (nothing, {"home": ""}, "is not one below a storage folder"),
        (nothing, {"home": "/etc"}, "is not one below a storage folder"),
        (linked_home, {}, "9 is a symbolic link or a file where a folder was expected"),
        (linked_parent, {}, "1 is a symbolic link or a file where a folder was expected"),
    ],
)
@asynchronous
async def test_refused(bench: Bench, make: Callable[[Bench], None], changes: dict[str, Any], sentence: str) -> None:
    make(bench)
    with pytest.raises(PermanentError, match=sentence):
        await bench.prepare(evolve(sandbox_vms.spec(9, "runs"), **changes))


@pytest.mark.skipif(not ROOT, reason="only root sets users")
@asynchronous
async def test_image_needs_setpriv(bench: Bench) -> None:
    lacking("usr/bin/setpriv")(bench)
    with pytest.raises(PermanentError, match="The image desk lacks usr/bin/setpriv"):
        await bench.prepare(sandbox_vms.spec(9, "runs", "desk"))


@pytest.mark.skipif(not ROOT, reason="only root sets owners")
@asynchronous
async def test_somebody_elses_home(bench: Bench) -> None:
    bench.home.mkdir(parents=True)
    os.chown(bench.home, 12345, 12345)
    with pytest.raises(PermanentError, match=r"The home 1/9 belongs to user id 12345, not to \d+"):
        await bench.prepare(sandbox_vms.spec(9, "runs"))


@pytest.mark.skipif(not ROOT, reason="an ordinary user's guest can read what that user can")
@asynchronous
async def test_code_closed_to_the_guests_user(bench: Bench) -> None:
    """As after an installation with a strict umask."""
    closed = bench.base / "closed"
    (closed / "module").mkdir(parents=True)
    (closed / "module").chmod(0o700)
    python = evolve(bench.layout.python, binds=((closed, "/.qvd/lib/qvd"),))
    bench.change(command=None, python=python)
    with pytest.raises(PermanentError, match=r"cannot read .*closed/module; 'chmod -R go\+rX .*closed' cures that"):
        await bench.prepare(sandbox_vms.spec(9, "runs"))


def closed_ancestors(*paths: Path) -> list[Path]:
    """Folders on the way to C{paths} that other users cannot pass."""
    found = {parent for path in paths for parent in path.parents if not parent.stat().st_mode & 0o001}
    return sorted(found)


@pytest.mark.skipif(not ROOT, reason="is one already")
def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """All this, and the contract, again: by nobody, who sees this machine read-only but for a folder of the test."""
    require("bwrap", "setpriv")
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    os.chown(nobody, 65534, 65534)
    shown = [Path(sys.base_prefix), Path(sys.prefix), PROJECT]
    words = [
        "bwrap",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--dev-bind",
        "/dev",
        "/dev",
        "--bind",
        "/proc",
        "/proc",
    ]
    words += ["--bind", str(nobody), "/tmp"]
    for closed in closed_ancestors(*shown):
        words += ["--perms", "0755", "--tmpfs", str(closed)]
    for path in shown:
        words += [*parents(str(path)), "--ro-bind", str(path), str(path)]
    words += ["--chdir", str(PROJECT), "--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--setenv", "HOME", "/tmp"]
    words += ["--", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    words += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/tmp/base"]
    words += ["tests/contract/test_driver.py", "tests/integration/test_sandbox.py"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d\d passed", done.stdout), done.stdout[-2000:]
