"""The lxc driver with real containers: what they are, what stays of them, and what limits them."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from qvd.hkd.hypervisor.lxc.files import LOG_LIMIT
from qvd.hkd.hypervisor.lxc.groups import groups_of
from qvd.model.records import Persistence
from tests.fakes.asynchronous import asynchronous, until
from tests.machines import containers
from tests.machines.containerbench import NINE, Bench, mounts
from tests.machines.containers import UID_BASE

pytestmark = [pytest.mark.private, pytest.mark.lxc]


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
async def test_a_root_without_a_lower_layer(bench: Bench) -> None:
    """As of a storage that copies images, or makes snapshots of them."""
    image = bench.own_image()
    bench.driver.close()
    bench.driver = containers.driver_of(bench.layout, bench.images, bench.base, copies=True)
    assert await bench.run("echo changed > /etc/motd; cat /etc/motd; echo $?") == "changed\n0\n"
    assert (image / "etc/motd").read_text() == "as delivered\n"
    assert mounts().count(str(bench.base)) == 0


@asynchronous
async def test_memory_is_limited(bench: Bench) -> None:
    out = await bench.run("dd if=/dev/zero of=/dev/null bs=200M count=1; echo status $?")
    assert "status 137" in out


@asynchronous
async def test_processes_are_limited(bench: Bench) -> None:
    bench.change(pids=30)
    out = await bench.run("(for i in 1 2 3 4 5 6 7 8 9; do (for j in 1 2 3 4 5; do sleep 99 & done) & done)")
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
