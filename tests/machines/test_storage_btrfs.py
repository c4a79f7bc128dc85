"""Roots as snapshots of btrfs subvolumes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from qvd.hkd.storage import subvolumes
from qvd.hkd.storage.layers import BtrfsLayers
from qvd.hkd.storage.roots import Roots
from qvd.model.errors import TransientError
from qvd.model.ids import VMId
from qvd.model.records import Persistence
from tests.conftest import missing, require
from tests.fakes.asynchronous import asynchronous
from tests.machines.storage import ROOT, Storage, archive, content, exists, silent, spec, write

pytestmark = [pytest.mark.private, pytest.mark.lxc]


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Storage]:
    """A storage in a btrfs of its own, in a file."""
    require("mkfs.btrfs")
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    place.mkdir()
    disk.touch()
    os.truncate(disk, 256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", disk, place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        missing(f"mount of btrfs: {mounted.stderr.strip()}")
    storage = Storage(place / "storage")
    storage.layout = evolve(storage.layout, subvolumes=True)
    storage.put("desk", archive(*ROOT))
    yield storage
    storage.close()
    subprocess.run(["umount", place], check=True)


def roots_of(storage: Storage) -> Roots:
    return storage.roots(layers=BtrfsLayers())


@asynchronous
async def test_a_layer_is_a_snapshot(btrfs: Storage) -> None:
    roots = roots_of(btrfs)
    await roots.prepare(spec("desk"), silent)
    (base,) = btrfs.bases()
    assert base.endswith(".subvolume")
    plan = await roots.lay_out(spec("desk"))
    assert (plan.lower, plan.work) == ("", "")
    write("changed", plan.upper, "sbin/init")
    assert content(str(btrfs.layout.bases), base, "rootfs/sbin/init") == b"#!init"
    await roots.clean(VMId(1))
    assert await roots.left() == set()
    again = await roots.lay_out(spec("desk"))
    assert content(again.upper, "sbin/init") == b"#!init"


@asynchronous
async def test_a_snapshot_persists(btrfs: Storage) -> None:
    roots, kept = roots_of(btrfs), spec("desk", persistence=Persistence.EVERYTHING)
    await roots.prepare(kept, silent)
    plan = await roots.lay_out(kept)
    write("changed", plan.upper, "sbin/init")
    await roots.clean(VMId(1))
    again = await roots.lay_out(kept)
    assert content(again.upper, "sbin/init") == b"changed"


def make_nested(folder: str, depth: int) -> None:
    for _ in range(depth):
        subprocess.run(["btrfs", "-q", "subvolume", "create", f"{folder}/mine"], check=True)
        folder = f"{folder}/mine/a/b"
        subprocess.run(["mkdir", "-p", folder, f"{folder}/c"], check=True)


@asynchronous
async def test_subvolumes_that_a_guest_has_made_go_too(btrfs: Storage) -> None:
    """A user may make some wherever a folder is theirs, one in another, with folders between."""
    roots = roots_of(btrfs)
    await roots.prepare(spec("desk"), silent)
    plan = await roots.lay_out(spec("desk"))
    make_nested(plan.upper, 5)
    await roots.clean(VMId(1))
    assert not exists(plan.upper)
    assert await roots.left() == set()


@asynchronous
async def test_storage_that_is_no_btrfs(storage: Storage) -> None:
    storage.layout = evolve(storage.layout, subvolumes=True)
    storage.put("desk", archive(*ROOT))
    with pytest.raises(TransientError, match=r"is in no btrfs file system, as vm\.lxc\.storage says"):
        await roots_of(storage).prepare(spec("desk"), silent)
    assert (storage.bases(), storage.leftovers()) == ([], [])


def test_a_mount_is_not_taken_for_a_subvolume(btrfs: Storage) -> None:
    folder = btrfs.top / "layer"
    (folder / "mounted").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "mounted"], check=True)
    (folder / "mounted/file").touch()
    try:
        with pytest.raises(OSError, match="another file system is mounted there"):
            subvolumes.remove_tree(folder)
        assert (folder / "mounted/file").exists()
    finally:
        subprocess.run(["umount", folder / "mounted"], check=True)
