"""What is seen in the folders of the storage, with real files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from qvd.hkd.garbage import listing
from qvd.hkd.garbage.places import opened_root
from qvd.hkd.garbage.worker import Beat, GivenUp
from qvd.model.garbage import Kind, Thing


def seen(
    lister: Callable[[listing.Place, Beat], Iterable[Thing]], folder: Path, *mounts: str
) -> list[tuple[Kind, str, int | None, str]]:
    """Kind, path, VM and trouble of each thing."""
    with opened_root(folder) as fd:
        things = list(lister(listing.Place("s", fd, mounts), lambda: None))
    return [(thing.kind, thing.key.path, thing.vm_id, thing.trouble) for thing in things]


def fill(folder: Path, *names: str) -> None:
    """Make folders, and files where a name has a suffix."""
    for name in names:
        path = folder / name
        if path.suffix and not path.name.startswith("."):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        else:
            path.mkdir(parents=True)


def test_homes(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/Documents", "1/57.lock", "1/58.qcow2", "1/58.qcow2.lock", "12/3", "1/.0123456789abcdef")
    # None of these has a name that is ours.
    fill(tmp_path, "lost+found", "1/57.bak", "1/57x", "1/057", "01/5", "1/.hidden", "x/5", "1/5.qcow2.old")
    assert seen(listing.homes, tmp_path) == [
        (Kind.UNFINISHED, "1/.0123456789abcdef", None, ""),
        (Kind.HOME, "1/57", 57, ""),
        (Kind.HOME, "1/58", 58, ""),
        (Kind.HOME, "12/3", 3, ""),
    ]


def test_a_lock_that_is_left_alone_is_a_home(tmp_path: Path) -> None:
    fill(tmp_path, "1/57.lock")
    assert seen(listing.homes, tmp_path) == [(Kind.HOME, "1/57", 57, "")]


def test_links_are_not_followed_and_are_trouble(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    fill(elsewhere, "1/99")
    homes = tmp_path / "homes"
    fill(homes, "1/60")
    (homes / "2").symlink_to(elsewhere / "1")
    (homes / "1" / "57").symlink_to(elsewhere)
    (homes / "1" / "58.qcow2").symlink_to(elsewhere / "disk")
    (homes / "1" / "60.lock").symlink_to(elsewhere / "lock")
    fill(homes, "1/59.qcow2/folder")
    (homes / "1" / "61").write_text("a file")
    assert seen(listing.homes, homes) == [
        (Kind.HOME, "1/57", 57, listing.LINK),
        (Kind.HOME, "1/58", 58, listing.LINK),
        (Kind.HOME, "1/59", 59, "it is no file"),
        (Kind.HOME, "1/60", 60, listing.LINK),
        (Kind.HOME, "1/61", 61, "it is no folder"),
    ]


def test_what_is_mounted_is_trouble(tmp_path: Path) -> None:
    fill(tmp_path, "1/5", "1/57", "1/58", "1/59")
    troubles = {path: trouble for _, path, _, trouble in seen(listing.homes, tmp_path, "1/57", "1/58/deep/down")}
    assert troubles == {"1/5": "", "1/57": listing.MOUNTED, "1/58": listing.MOUNTED, "1/59": ""}


def test_layers(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "57/upper",
        "58",
        "persistent/60/0123",
        "persistent/62-0a.qcow2",
        "persistent/62-0a.qcow2.lock",
        "persistent/x",
        "other",
        "61/node-a%2Fb",
        "61/node-c",
        ".trash/2026-11-28-1-57-ab/57",
    )
    (tmp_path / "59").symlink_to("58")
    assert seen(listing.layers, tmp_path) == [
        (Kind.LAYER, "57", 57, ""),
        (Kind.LAYER, "58", 58, ""),
        (Kind.LAYER, "59", 59, listing.LINK),
        (Kind.LAYER, "61/node-a%2Fb", 61, ""),
        (Kind.LAYER, "61/node-c", 61, ""),
        (Kind.PERSISTENT, "persistent/60", 60, ""),
        (Kind.PERSISTENT, "persistent/62-0a.qcow2", 62, ""),
        (Kind.TRASH, ".trash/2026-11-28-1-57-ab", None, ""),
    ]


def test_a_layer_may_say_whose_it_is(tmp_path: Path) -> None:
    fill(tmp_path, "57/node-a%2Fb", "58/upper")
    with opened_root(tmp_path) as fd:
        assert [thing.node for thing in listing.layers(listing.Place("s", fd, ()), lambda: None)] == ["a/b", ""]


def test_bases(tmp_path: Path) -> None:
    fill(tmp_path, "desk.tar@0123/rootfs", "desk.tar@4567", ".desk.tar@89.0123456789abcdef.new", "mine", ".x.lock")
    marker = tmp_path / "desk.tar@0123" / "image.json"
    marker.write_text(json.dumps({"image": "desk.tar", "sha256": "01" * 32, "size": 1}))
    with opened_root(tmp_path) as fd:
        unfinished, base = listing.bases(listing.Place("s", fd, ()), lambda: None)
    assert (unfinished.kind, unfinished.key.path) == (Kind.UNFINISHED, ".desk.tar@89.0123456789abcdef.new")
    assert (base.kind, base.key.path, base.image) == (Kind.BASE, "desk.tar@0123", "desk.tar")
    assert base.checksum == "01" * 32


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "7", '"x"'])
def test_a_base_that_does_not_say_what_it_is_made_of_is_left_alone(tmp_path: Path, content: str) -> None:
    fill(tmp_path, "desk@1")
    (tmp_path / "desk@1" / "image.json").write_text(content)
    assert seen(listing.bases, tmp_path) == []


def test_images(tmp_path: Path) -> None:
    fill(tmp_path, "desk.tar", "folder", ".upload.part")
    (tmp_path / ".hidden.tar").write_text("")
    assert [path for _, path, _, _ in seen(listing.images, tmp_path)] == ["desk.tar", "folder"]


def test_who_is_given_up_looks_no_further(tmp_path: Path) -> None:
    fill(tmp_path, "1/57")

    def beat() -> None:
        raise GivenUp

    with opened_root(tmp_path) as fd, pytest.raises(GivenUp):
        list(listing.homes(listing.Place("s", fd, ()), beat))
