"""Garbage with something mounted in it, in a private world: nothing behind a mount is touched, whenever it came."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from qvd.hkd.garbage import listing
from qvd.hkd.garbage.places import MOUNTS, mounts_below
from qvd.model.garbage import Fate
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture
from tests.integration.test_garbage import HOMES, Store, fates

pytestmark = [pytest.mark.private, pytest.mark.contract]


@asynchronous_fixture
async def store(database: str, tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(database, tmp_path)
    await made.pool.start()
    made.fill("overlays/57/upper/deep/file", "homes/1/57/file", "homes/1/1/file", "elsewhere/precious")
    await made.later(days=0)
    made.age(31)
    yield made
    await made.close()


@contextmanager
def bound(store: Store, target: str, *options: str) -> Iterator[None]:
    """Bind a folder of the same file system, which no device number gives away."""
    place = store.folder / target
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", *options, str(store.folder / "elsewhere"), str(place)], check=True)
    try:
        yield
    finally:
        # It may have been moved.
        for point in mounts_below(store.folder, MOUNTS.read_text()):
            subprocess.run(["umount", store.folder / point], check=True)


def seen_too_late(path: Path) -> tuple[str, ...]:
    return ()


@asynchronous
async def test_a_mount_in_a_layer(store: Store) -> None:
    with bound(store, "overlays/57/upper/deep/mount"):
        report = await store.collector.collect(HOMES)
        assert fates(report)["57"] is Fate.LEAVE
        assert store.has("elsewhere/precious", "overlays/57/upper/deep/file") == [True, True]
    # Its time begins again.
    assert fates(await store.collector.collect(HOMES))["57"] is Fate.MARK


@asynchronous
async def test_a_home_that_is_a_mount(store: Store) -> None:
    with bound(store, "homes/1/57"):
        assert fates(await store.collector.collect(HOMES))["1/57"] is Fate.LEAVE
    assert store.has("elsewhere/precious", "homes/1/57/file") == [True, True]


@asynchronous
async def test_a_mount_on_a_home_that_comes_after_the_look(store: Store) -> None:
    with mock.patch.object(listing, "mounts_of", seen_too_late), bound(store, "homes/1/57"):
        report = await store.collector.collect(HOMES)
        (verdict,) = (verdict for verdict in report.verdicts if verdict.thing.key.path == "1/57")
        assert (verdict.fate, verdict.reason) == (Fate.LEAVE, listing.MOUNTED)
    assert store.has("elsewhere/precious", "homes/1/57/file") == [True, True]


@asynchronous
async def test_a_mount_in_a_layer_that_comes_after_the_look(store: Store) -> None:
    """The layer is out of the way by then. What is mounted in it is not touched, and the rest goes when it is gone."""
    with mock.patch.object(listing, "mounts_of", seen_too_late), bound(store, "overlays/57/upper/deep/mount"):
        report = await store.collector.collect(HOMES)
        assert fates(report)["57"] is Fate.DELETE
        (failure,) = report.failures
        assert failure.endswith("something is mounted in it")
        assert store.has("overlays/57", "elsewhere/precious") == [False, True]
    assert (await store.collector.collect(HOMES)).removed == 1
    assert store.has("elsewhere/precious") == [True]


@asynchronous
async def test_a_folder_that_cannot_be_written(store: Store) -> None:
    """Images are only looked at."""
    store.fill("elsewhere/mine.tar")
    with bound(store, "images", "-o", "ro"):
        assert fates(await store.collector.collect(HOMES))["mine.tar"] is Fate.REPORT
