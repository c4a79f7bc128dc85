"""Containers end: by themselves, when they are asked, with the lease, and with whatever process of theirs is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from qvd.hkd import watchdog_launch
from qvd.hkd.hypervisor import signals as supervised_signals
from qvd.hkd.hypervisor.lxc.groups import read_hierarchies
from qvd.hkd.hypervisor.pidfd import identify
from qvd.hkd.hypervisor.supervisor import uptime
from qvd.model.errors import PermanentError
from tests.fakes.asynchronous import asynchronous, pause, until
from tests.machines import containers
from tests.machines.containerbench import NINE, Bench, mounts

pytestmark = [pytest.mark.private, pytest.mark.lxc]


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
    for step in range(6):
        daemon = daemon_about_to_start(bench)
        await pause(step * 0.025)
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
