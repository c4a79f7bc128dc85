"""Things are taken away at once or not at all, with real files."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from qvd.hkd.files.folders import remove_tree
from qvd.hkd.garbage import moving
from qvd.hkd.garbage.listing import LINK
from qvd.hkd.garbage.moving import BUSY, doomed, remove, set_aside, size_of
from qvd.hkd.garbage.places import DOOMED, TRASH
from qvd.hkd.garbage.worker import GivenUp
from qvd.model.errors import PermanentError
from qvd.model.garbage import Key, Kind, Thing
from qvd.model.ids import VMId

DATE = "2026-11-28"


def home(path: str = "1/57", kind: Kind = Kind.HOME) -> Thing:
    return Thing(Key("s", path), kind, VMId(57))


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def aside(root: Path, thing: Thing, where: str = TRASH, beats: int = 1000) -> str:
    """Given up at a beat."""
    left = [beats]

    def beat() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise GivenUp

    return set_aside(root, thing, where, DATE, beat)


def test_a_home_goes_to_the_trash_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/file", "1/57.lock", "1/57.qcow2", "1/58/file", "1/57.bak")
    path = aside(tmp_path, home())
    assert path.startswith(f"{TRASH}/{DATE}-1-57-")
    assert tree(tmp_path / path) == ["57.lock", "57.qcow2", "57/file"]
    assert tree(tmp_path / "1") == ["57.bak", "58/file"]
    assert (tmp_path / TRASH).stat().st_mode & 0o777 == 0o700


def test_two_of_one_name_on_one_day(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/file")
    first = aside(tmp_path, home())
    fill(tmp_path, "1/57/file")
    assert aside(tmp_path, home()) != first


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert aside(tmp_path, home()) == ""
    fill(tmp_path, "1/58/file")
    assert aside(tmp_path, home()) == ""
    assert tree(tmp_path) == ["1/58/file"]


def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/file", "1/57.lock")
    holder = os.open(tmp_path / "1/57.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(PermanentError, match=BUSY):
        aside(tmp_path, home())
    os.close(holder)
    assert tree(tmp_path) == ["1/57.lock", "1/57/file"]
    assert aside(tmp_path, home())


def test_an_image_that_is_being_unpacked_is_left_alone(tmp_path: Path) -> None:
    name = ".desk@1.0123456789abcdef.new"
    fill(tmp_path, f"{name}/rootfs/file", ".desk@1.lock")
    unfinished = Thing(Key("s", name), Kind.UNFINISHED)
    holder = os.open(tmp_path / ".desk@1.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(PermanentError, match=BUSY):
        aside(tmp_path, unfinished, DOOMED)
    os.close(holder)
    assert aside(tmp_path, unfinished, DOOMED)
    assert (tmp_path / ".desk@1.lock").exists()


def test_a_disk_that_a_machine_has_open_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, "1/57.qcow2")
    holder = os.open(tmp_path / "1/57.qcow2", os.O_RDONLY)
    # As QEMU does: a shared lock on one byte, of the open file and not of the process.
    fcntl.fcntl(holder, fcntl.F_OFD_SETLK, moving.FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
    with pytest.raises(PermanentError, match=BUSY):
        aside(tmp_path, home())
    os.close(holder)
    assert aside(tmp_path, home())


@pytest.mark.parametrize("lock", ["0123.lock", "0123/upper.lock"])
def test_a_persistent_layer_in_use_is_left_alone(tmp_path: Path, lock: str) -> None:
    fill(tmp_path, "persistent/57/0123/upper/file", f"persistent/57/{lock}")
    (tmp_path / "persistent/57/45").symlink_to(tmp_path)
    layer = home("persistent/57", Kind.PERSISTENT)
    holder = os.open(tmp_path / "persistent/57" / lock, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(PermanentError, match=BUSY):
        aside(tmp_path, layer)
    os.close(holder)
    assert tree(tmp_path / aside(tmp_path, layer)) == sorted([f"57/{lock}", "57/0123/upper/file"])


def test_a_persistent_disk_goes_with_its_lock(tmp_path: Path) -> None:
    fill(tmp_path, "persistent/57-0a.qcow2", "persistent/57-0a.qcow2.lock", "persistent/57-0b.qcow2")
    path = aside(tmp_path, home("persistent/57-0a.qcow2", Kind.PERSISTENT))
    assert tree(tmp_path / path) == ["57-0a.qcow2", "57-0a.qcow2.lock"]
    assert tree(tmp_path / "persistent") == ["57-0b.qcow2"]


@pytest.mark.parametrize("name", ["57", "57.lock", "57.qcow2"])
def test_a_link_in_place_of_a_part(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "elsewhere/file", "homes/1/57.qcow2.lock")
    (tmp_path / "homes/1" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermanentError, match=LINK):
        aside(tmp_path / "homes", home())
    assert (tmp_path / "homes/1" / name).is_symlink()
    assert (tmp_path / "elsewhere/file").exists()
    assert (tmp_path / "homes/1/57.qcow2.lock").exists()


def test_a_link_in_place_of_the_tenant(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/57/file")
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes/1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermanentError, match="symbolic link"):
        aside(tmp_path / "homes", home())
    assert (tmp_path / "elsewhere/57/file").exists()


@pytest.mark.parametrize("beats", range(4))
def test_who_is_given_up_leaves_all_as_it_was(tmp_path: Path, beats: int) -> None:
    fill(tmp_path, "1/57/file", "1/57.lock", "1/57.qcow2")
    with pytest.raises(GivenUp):
        aside(tmp_path, home(), beats=beats)
    assert tree(tmp_path) == ["1/57.lock", "1/57.qcow2", "1/57/file"]
    assert list((tmp_path / TRASH).iterdir()) == []
    assert aside(tmp_path, home())


def test_what_was_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/old", "1/57.lock")
    beats = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 2:
            fill(tmp_path, "1/57/new")
            raise GivenUp

    with pytest.raises(GivenUp):
        set_aside(tmp_path, home(), TRASH, DATE, beat)
    assert tree(tmp_path / "1") == ["57.lock", "57/new"]
    (kept,) = (tmp_path / TRASH).iterdir()
    assert tree(kept) == ["57/old"]


def test_the_trash_is_removed_in_two_steps(tmp_path: Path) -> None:
    fill(tmp_path, "1/57/a/b/file", "1/57.lock")
    path = aside(tmp_path, home())
    aside(tmp_path, Thing(Key("s", path), Kind.TRASH), DOOMED)
    (name,) = doomed(tmp_path)
    assert list((tmp_path / TRASH).iterdir()) == []
    remove(tmp_path, name, remove_tree)
    assert tree(tmp_path) == []
    assert doomed(tmp_path) == []
    remove(tmp_path, name, remove_tree)


def test_links_in_what_is_removed_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/file", "layers/57/upper/file")
    (tmp_path / "layers/57/upper/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "layers/57/work").mkdir(mode=0)
    aside(tmp_path / "layers", home("57", Kind.LAYER), DOOMED)
    (name,) = doomed(tmp_path / "layers")
    remove(tmp_path / "layers", name, remove_tree)
    assert tree(tmp_path) == ["elsewhere/file"]


def test_a_removal_that_fails_can_be_done_later(tmp_path: Path) -> None:
    fill(tmp_path, "57/a/file")
    aside(tmp_path, home("57", Kind.LAYER), DOOMED)
    (name,) = doomed(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with pytest.raises(PermanentError, match="cannot be removed: Operation not permitted"):
        remove(tmp_path, name, refuse)
    assert doomed(tmp_path) == [name]
    remove(tmp_path, name, remove_tree)
    assert doomed(tmp_path) == []


class TestSize:
    def test_all_parts(self, tmp_path: Path) -> None:
        fill(tmp_path, "1/57/a/small", "1/57.lock")
        (tmp_path / "1/57/large").write_bytes(b"x" * 300_000)
        (tmp_path / "1/57.qcow2").write_bytes(b"x" * 100_000)
        size = size_of(tmp_path, home(), lambda: None)
        assert size is not None and 400_000 <= size < 500_000

    def test_a_sparse_file_counts_what_it_takes(self, tmp_path: Path) -> None:
        fill(tmp_path, "1/57.qcow2")
        os.truncate(tmp_path / "1/57.qcow2", 1 << 40)
        size = size_of(tmp_path, home(), lambda: None)
        assert size is not None and size < 1 << 20

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(b"x" * 300_000)
        fill(tmp_path, "1/57/file")
        (tmp_path / "1/57/link").symlink_to(tmp_path / "large")
        size = size_of(tmp_path, home(), lambda: None)
        assert size is not None and size < 100_000

    def test_too_many(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(tmp_path, "1/57/a", "1/57/b")
        monkeypatch.setattr(moving, "MOST_ENTRIES", 1)
        assert size_of(tmp_path, home(), lambda: None) is None

    def test_a_link_has_none(self, tmp_path: Path) -> None:
        fill(tmp_path, "1/x")
        (tmp_path / "1/57").symlink_to("x")
        assert size_of(tmp_path, home(), lambda: None) is None
