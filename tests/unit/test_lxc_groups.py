"""Where control groups are, from what the kernel says."""

from __future__ import annotations

from pathlib import Path

from qvd.hkd.hypervisor.lxc.groups import bases, hierarchies

MOUNTS = """\
24 1 0:22 / /proc rw,relatime - proc proc rw
31 30 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
35 1 0:31 / /mnt/cgroup rw - tmpfs cgroup rw
"""


def test_hierarchies() -> None:
    assert list(hierarchies(MOUNTS)) == [
        (Path("/sys/fs/cgroup/memory"), frozenset({"rw", "memory"})),
        (Path("/sys/fs/cgroup/cpu,cpuacct"), frozenset({"rw", "cpu", "cpuacct"})),
        (Path("/sys/fs/cgroup/systemd"), frozenset({"rw", "name=systemd"})),
        (Path("/sys/fs/cgroup/unified"), None),
    ]


def test_bases() -> None:
    """liblxc starts from process 1's groups, but not from systemd's own."""
    assert bases("3:memory:/\n0::/init.scope\n") == {""}
    assert bases("3:cpu,cpuacct:/machine/a\n0::/machine/a/init.scope\n") == {"machine/a"}
    assert bases("0::/../outside\n") == set()
