"""What the lxc driver refuses to start, and with which words."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from qvd.hkd.hypervisor.lxc import launch
from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.records import Persistence
from tests.fakes.asynchronous import asynchronous
from tests.machines.containerbench import Bench
from tests.machines.containers import UID_BASE

pytestmark = [pytest.mark.private, pytest.mark.lxc]


@asynchronous
async def test_liblxcs_complaint(bench: Bench) -> None:
    """It becomes the sentence of the failed start."""
    extra = bench.base / "extra"
    extra.write_text("lxc.mount.entry = /absent mnt none bind 0 0\n")
    bench.change(extra=extra)
    with pytest.raises(PermanentError, match=r"VM 9 could not be started: .*/absent"):
        await bench.boot()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[None]:
    """The storage of layers that persist has no room for any file."""
    kept = tmp_path / "kept"
    kept.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(kept)], check=True)
    with contextlib.suppress(OSError):
        (kept / "fill").write_bytes(bytes(1 << 17))
    yield
    subprocess.run(["umount", str(kept)], check=True)


@asynchronous
async def test_full_storage(full: None, bench: Bench) -> None:
    """That passes."""
    bench.spec = evolve(bench.spec, persistence=Persistence.EVERYTHING)
    with pytest.raises(TransientError, match=r"VM 9 could not be started: .*No space left on device"):
        await bench.boot(wait=False)
    await bench.end()


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
        (linked_own_folder, ": .qvd: Not a directory"),
        (linked_home, ": home: Not a directory"),
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
