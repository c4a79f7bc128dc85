"""Good images, unpacked for real."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.conftest import require
from tests.fakes.asynchronous import asynchronous
from tests.machines.storage import (
    BASE,
    COMPRESSIONS,
    ROOT,
    Storage,
    archive,
    content,
    entry,
    exists,
    folder,
    marker,
    silent,
    spec,
)

pytestmark = [pytest.mark.private, pytest.mark.lxc]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@asynchronous
async def test_each_compression(storage: Storage, compression: str) -> None:
    if compression == "zstd":
        require("zstd")
    checksum = storage.put("desk", COMPRESSIONS[compression](archive(*ROOT)))
    roots, said = storage.roots(), list[str]()
    await roots.prepare(spec("desk", checksum=checksum), said.append)
    assert storage.bases() == [f"desk@{checksum[:16]}"]
    assert said[0] == "Checking the image"
    assert said[-1] == "Unpacking the image, 100 %"
    plan = await roots.lay_out(spec("desk", checksum=checksum))
    assert content(plan.lower, "sbin/init") == b"#!init"
    remembered = marker(plan.lower)
    assert (remembered["image"], remembered["sha256"], remembered["files"]) == ("desk", checksum, 2)


def described(*parts: str) -> tuple[int, int, int, int]:
    """Kind and mode, owner, group, and time of change."""
    status = Path(*parts).lstat()
    return status.st_mode, status.st_uid - BASE, status.st_gid - BASE, int(status.st_mtime)


def capability(*parts: str) -> bytes:
    """As the container's own root would have set it: the kernel adds whose root that is."""
    return os.getxattr(Path(*parts), "security.capability")


def inode(*parts: str) -> int:
    return Path(*parts).lstat().st_ino


@asynchronous
async def test_all_that_matters_of_a_file_is_kept(storage: Storage) -> None:
    capable = entry("ping", b"x", mode=0o755, mtime=5)
    capable[0].pax_headers = {"SCHILY.xattr.security.capability": (b"\1\0\0\2\0 " + bytes(14)).decode()}
    storage.put(
        "desk",
        archive(
            folder("./", mode=0o751, mtime=7),
            *ROOT,
            capable,
            entry("implied/su", b"x", mode=0o4755, uid=33, gid=65535, mtime=1000000000),
            folder("home", mode=0o1777, uid=1, mtime=77),
            entry("home/file", b"later"),
            entry("link", type=tarfile.SYMTYPE, linkname="/etc/passwd", uid=9, mtime=11),
            entry("su", type=tarfile.LNKTYPE, linkname="./implied/su"),
            entry("fifo", type=tarfile.FIFOTYPE, mode=0o620),
            entry("nämé\udcff", b"x"),
            entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("dev/initctl", type=tarfile.FIFOTYPE),
            entry("home/file", b"latest"),
        ),
    )
    roots = storage.roots()
    await roots.prepare(spec("desk"), silent)
    root = (await roots.lay_out(spec("desk"))).lower
    assert described(root) == (stat.S_IFDIR | 0o751, 0, 0, 7)
    assert described(root, "implied/su") == (stat.S_IFREG | 0o4755, 33, 65535, 1000000000)
    assert described(root, "home") == (stat.S_IFDIR | 0o1777, 1, 0, 77)
    assert described(root, "link")[1:] == (9, 0, 11)
    assert os.readlink(os.path.join(root, "link")) == "/etc/passwd"
    assert inode(root, "su") == inode(root, "implied/su")
    assert described(root, "fifo")[0] == stat.S_IFIFO | 0o620
    assert content(root, "home/file") == b"latest"
    assert content(root, "nämé\udcff") == b"x"
    assert not exists(root, "dev/null")
    assert not exists(root, "dev/initctl")
    assert b" " in capability(root, "ping")
