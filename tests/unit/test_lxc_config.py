"""liblxc's configuration from values, and what may be added to it."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.hkd.hypervisor.lxc import launch
from qvd.hkd.hypervisor.lxc.config import (
    INIT,
    ROOT,
    Cable,
    Container,
    Controllers,
    Limits,
    checked_extra,
    config_text,
)
from qvd.model.errors import PermanentError
from qvd.model.records import Nic

LEGACY = Controllers(frozenset({"cpu", "cpuacct", "devices", "memory", "pids"}), frozenset())
UNIFIED = Controllers(frozenset(), frozenset({"cpu", "memory", "pids"}))
CONTAINER = Container(
    name="qvd-9-abc",
    hostname="desk",
    console="/run/qvd/vms/9/console.log",
    note="/bin/sh /run/qvd/vms/9/note",
    cable=Cable(Nic("10.88.0.9", 24, "52:54:00:00:00:09", "10.88.0.1"), "qvdnet0", "qvd9"),
    limits=Limits(512 << 20, 1.5, 1000),
    controllers=LEGACY,
    uid_base=1_000_000,
)


def has(container: Container, *wanted: str) -> bool:
    """Whether all these lines are in its configuration."""
    found = config_text(container).splitlines()
    return all(line in found for line in wanted)


def keys(container: Container, start: str) -> list[str]:
    return [line.split(" = ")[0] for line in config_text(container).splitlines() if line.startswith(start)]


def test_whole() -> None:
    assert config_text(CONTAINER).splitlines() == [
        "lxc.rootfs.path = dir:/run/lxc/root",
        "lxc.init.cmd = /.qvd/init",
        "lxc.uts.name = desk",
        "lxc.hook.version = 1",
        "lxc.hook.start-host = /bin/sh /run/qvd/vms/9/note",
        "lxc.cgroup.dir.monitor.pivot = lxc.pivot.qvd-9-abc",
        "lxc.idmap = u 0 1000000 65536",
        "lxc.idmap = g 0 1000000 65536",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
        "lxc.autodev = 1",
        "lxc.tty.max = 0",
        "lxc.pty.max = 1024",
        "lxc.console.logfile = /run/qvd/vms/9/console.log",
        "lxc.console.size = 1MB",
        "lxc.console.rotate = 1",
        "lxc.net.0.type = veth",
        "lxc.net.0.name = eth0",
        "lxc.net.0.flags = up",
        "lxc.net.0.link = qvdnet0",
        "lxc.net.0.veth.pair = qvd9",
        "lxc.net.0.hwaddr = 52:54:00:00:00:09",
        "lxc.net.0.ipv4.address = 10.88.0.9/24",
        "lxc.net.0.ipv4.gateway = 10.88.0.1",
        "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio",
        "lxc.cgroup.memory.limit_in_bytes = 536870912",
        "lxc.cgroup.pids.max = 1000",
        "lxc.cgroup.cpu.cfs_period_us = 100000",
        "lxc.cgroup.cpu.cfs_quota_us = 150000",
        "lxc.cgroup.devices.deny = a",
        "lxc.cgroup.devices.allow = c 1:3 rwm",
        "lxc.cgroup.devices.allow = c 1:5 rwm",
        "lxc.cgroup.devices.allow = c 1:7 rwm",
        "lxc.cgroup.devices.allow = c 1:8 rwm",
        "lxc.cgroup.devices.allow = c 1:9 rwm",
        "lxc.cgroup.devices.allow = c 5:0 rwm",
        "lxc.cgroup.devices.allow = c 5:1 rwm",
        "lxc.cgroup.devices.allow = c 5:2 rwm",
        "lxc.cgroup.devices.allow = c 136:* rwm",
    ]


def test_the_supervisors_program_knows_the_same_places() -> None:
    assert ROOT == launch.ROOT
    assert f"/{launch.OWN}/{launch.INIT}" == INIT


def test_version_two() -> None:
    container = evolve(CONTAINER, controllers=UNIFIED)
    assert has(container, "lxc.cgroup2.memory.max = 536870912", "lxc.cgroup2.pids.max = 1000")
    assert has(container, "lxc.cgroup2.cpu.max = 150000 100000", "lxc.cgroup2.devices.deny = a")
    assert keys(container, "lxc.cgroup.") == ["lxc.cgroup.dir.monitor.pivot"]


def test_both_versions() -> None:
    """Each controller belongs to one of them; devices need no controller in version 2."""
    container = evolve(CONTAINER, controllers=Controllers(frozenset({"devices", "cpu"}), frozenset({"memory"})))
    assert has(container, "lxc.cgroup2.memory.max = 536870912", "lxc.cgroup.devices.deny = a")
    assert keys(container, "lxc.cgroup2.") == ["lxc.cgroup2.memory.max"]
    assert "lxc.cgroup.memory.limit_in_bytes" not in keys(container, "lxc.cgroup.")


def test_no_controllers() -> None:
    container = evolve(CONTAINER, controllers=Controllers(frozenset(), frozenset()))
    assert keys(container, "lxc.cgroup") == ["lxc.cgroup.dir.monitor.pivot"]


@pytest.mark.parametrize(
    ("controllers", "line"),
    [
        (LEGACY, "lxc.cgroup.memory.memsw.limit_in_bytes = 536870912"),
        (UNIFIED, "lxc.cgroup2.memory.swap.max = 0"),
    ],
)
def test_swap(controllers: Controllers, line: str) -> None:
    """Only where it is accounted for can it be limited."""
    assert has(evolve(CONTAINER, controllers=evolve(controllers, swap=True)), line)
    assert not has(evolve(CONTAINER, controllers=controllers), line)


def test_processors() -> None:
    limits = CONTAINER.limits
    assert keys(evolve(CONTAINER, limits=evolve(limits, cpus=None)), "lxc.cgroup.cpu.") == []
    assert has(evolve(CONTAINER, limits=evolve(limits, cpus=0.001)), "lxc.cgroup.cpu.cfs_quota_us = 1000")


def test_no_user_namespace() -> None:
    assert keys(evolve(CONTAINER, uid_base=None), "lxc.idmap") == []


def test_no_gateway() -> None:
    cable = evolve(CONTAINER.cable, nic=evolve(CONTAINER.cable.nic, gateway=None))
    assert "lxc.net.0.ipv4.gateway" not in keys(evolve(CONTAINER, cable=cable), "lxc.net")


def test_fuse() -> None:
    entry = "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file 0 0"
    assert has(evolve(CONTAINER, fuse=True), entry, "lxc.cgroup.devices.allow = c 10:229 rwm")
    assert not has(CONTAINER, "lxc.cgroup.devices.allow = c 10:229 rwm")


def test_confinement() -> None:
    own = evolve(CONTAINER, apparmor="generated", seccomp="/usr/share/lxc/config/common.seccomp")
    assert has(own, "lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1")
    assert has(own, "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp")
    assert keys(evolve(own, uid_base=None), "lxc.apparmor") == ["lxc.apparmor.profile"]
    assert keys(evolve(own, apparmor="unconfined"), "lxc.apparmor") == ["lxc.apparmor.profile"]


def test_what_is_added_comes_last() -> None:
    text = "\n# no limit\n  lxc.cgroup.pids.max = max  \n\nlxc.mount.entry = /srv mnt/home none bind 0 0\n"
    extra = checked_extra(text, "extra")
    assert extra == ("lxc.cgroup.pids.max = max", "lxc.mount.entry = /srv mnt/home none bind 0 0")
    assert tuple(config_text(evolve(CONTAINER, extra=extra)).splitlines()[-2:]) == extra


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("lxc.rootfs.path = dir:/", "lxc.rootfs.path belongs to QVD"),
        ("lxc.rootfs =", "lxc.rootfs belongs to QVD"),
        ("lxc.idmap =", "lxc.idmap belongs to QVD"),
        ("lxc.net.1.type = phys", "lxc.net.1.type belongs to QVD"),
        ("lxc.init.cmd = /sbin/init", "lxc.init.cmd belongs to QVD"),
        ("lxc.include = /etc/more", "lxc.include belongs to QVD"),
        ("lxc.namespace.keep = net", "lxc.namespace.keep belongs to QVD"),
        ("lxc.hook.start-host = /bin/true", "lxc.hook.start-host belongs to QVD"),
        ("lxc.mount.fstab = /etc/fstab", "lxc.mount.fstab belongs to QVD"),
        ("lxc.mount.entry = /srv home none bind 0 0", "what is mounted on /home is QVD's"),
        ("lxc.mount.entry = /srv ./home//alice none bind 0 0", "is QVD's"),
        ("lxc.mount.entry = /srv .qvd/init none bind 0 0", "is QVD's"),
        ("lxc.mount.entry = /srv . none bind 0 0", "is QVD's"),
        ("lxc.mount.entry = /srv mnt/../home none bind 0 0", "may not hold '..'"),
        ("lxc.mount.entry = /srv", "a mount needs what, where and its type"),
        ("rm -rf /", "expected lxc.KEY = VALUE"),
        ("lxc.environment", "expected lxc.KEY = VALUE"),
        ("include = lxc.conf", "expected lxc.KEY = VALUE"),
    ],
)
def test_refused(line: str, sentence: str) -> None:
    with pytest.raises(PermanentError) as caught:
        checked_extra(f"# first\n{line}\n", "/etc/qvd/extra")
    assert caught.value.text.startswith("/etc/qvd/extra, line 2: ")
    assert sentence in caught.value.text
