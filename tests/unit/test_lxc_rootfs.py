"""Looking into a root file system that somebody else has written."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from qvd.hkd.hypervisor.lxc.rootfs import (
    check_program,
    enter_folder,
    halt_signal,
    mount_id,
    open_folder,
    open_plain,
    resolve,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("usr/bin", "usr/lib/systemd", "etc"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    return root


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("sh", "usr/bin/sh"),
        ("/usr/bin/../lib", "usr/lib"),
        ("../../../../etc", "etc"),
        ("/bin/./sh", "usr/bin/sh"),
        ("/../../etc/passwd", "etc/passwd"),
    ],
)
def test_links_stay_inside(root: Path, target: str, leads_to: str) -> None:
    (root / "usr/bin/link").symlink_to(target)
    assert resolve(str(root), "/bin/link") == str(root / leads_to)


def test_a_circle(root: Path) -> None:
    (root / "usr/bin/link").symlink_to("link")
    with pytest.raises(OSError, match="too many symbolic links in /bin/link"):
        resolve(str(root), "/bin/link")


def test_program(root: Path) -> None:
    program = root / "usr/lib/systemd/systemd"
    program.touch(0o755)
    (root / "usr/bin/init").symlink_to("/lib/systemd/systemd")
    (root / "lib").symlink_to("usr/lib")
    assert check_program(str(root), "/bin/init") == str(program)
    program.chmod(0o644)
    with pytest.raises(OSError, match="the image has no program /bin/init"):
        check_program(str(root), "/bin/init")
    with pytest.raises(OSError, match="the image has no program /etc"):
        check_program(str(root), "/etc")


@pytest.mark.parametrize(
    ("program", "number"),
    [
        ("/usr/lib/systemd/systemd", signal.SIGRTMIN + 3),
        ("/bin/busybox", signal.SIGUSR2),
        ("/sbin/init", signal.SIGPWR),
    ],
)
def test_halt_signal(program: str, number: int) -> None:
    assert halt_signal(program) == number


def test_folder(root: Path) -> None:
    top = open_folder(str(root))
    for _ in range(2):
        os.close(enter_folder(top, "home", os.getuid()))
    assert (root / "home").stat().st_mode & 0o777 == 0o755
    with pytest.raises(NotADirectoryError):
        enter_folder(top, "bin", os.getuid())
    os.close(top)


def test_plain_file(root: Path) -> None:
    (root / "etc/hostname").touch()
    (root / "etc/hosts").symlink_to("hostname")
    (root / "etc/fifo").mkdir()
    (root / "var").symlink_to("etc")
    top = open_folder(str(root))
    found = open_plain(top, "etc/hostname")
    assert found is not None
    assert os.path.samestat(os.fstat(found), (root / "etc/hostname").stat())
    assert [open_plain(top, f"{name}") for name in ("etc/hosts", "etc/fifo", "var/hostname", "etc/absent")] == [
        None
    ] * 4
    os.close(found)
    os.close(top)


def test_mounts_differ() -> None:
    first, second, other = (open_folder(path) for path in ("/", "/", "/proc"))
    assert mount_id(first) == mount_id(second) != mount_id(other)
    for fd in (first, second, other):
        os.close(fd)
