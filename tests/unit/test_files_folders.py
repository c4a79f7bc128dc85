"""Homes made, and folders removed, whatever users have put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qvd.hkd.files.folders import checked_parts, make_home, remove_tree
from qvd.model.errors import PermanentError


@pytest.mark.parametrize("path", ["", "/", "/etc", "a//b", "a/", "..", "a/../b", ".", "a/.", "a\0b"])
def test_paths_that_lead_elsewhere(path: str) -> None:
    with pytest.raises(PermanentError, match="is not one below a storage folder"):
        checked_parts(path)


def test_plain_path() -> None:
    assert checked_parts("1/alice b/..c") == ("1", "alice b", "..c")


def test_home(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    home = make_home(tmp_path / "homes", "1/2/alice", None)
    assert home == tmp_path / "homes/1/2/alice"
    assert home.stat().st_mode & 0o777 == 0o700
    assert home.parent.stat().st_mode & 0o777 == 0o711
    (home / "file").write_text("kept")
    home.chmod(0o750)
    assert make_home(tmp_path / "homes", "1/2/alice", None) == home
    assert (home / "file").read_text() == "kept"
    assert home.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in home.parent.iterdir()] == ["alice"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_home_for_another(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root sets owners")
    home = make_home(tmp_path, "1/alice", 12345)
    assert (home.stat().st_uid, home.stat().st_gid) == (12345, 12345)
    assert home.parent.stat().st_uid == 0
    with pytest.raises(PermanentError, match="The home 1/alice belongs to user id 12345, not to 1"):
        make_home(tmp_path, "1/alice", 1)


@pytest.mark.parametrize("link", ["1", "1/alice"])
def test_home_behind_a_link(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "homes" / link).parent.mkdir(parents=True)
    (tmp_path / "homes" / link).symlink_to(elsewhere)
    with pytest.raises(PermanentError, match="is a symbolic link or a file"):
        make_home(tmp_path / "homes", "1/alice", None)
    assert list(elsewhere.iterdir()) == []


def test_home_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("")
    with pytest.raises(PermanentError, match="is a symbolic link or a file"):
        make_home(tmp_path, "alice", None)


def test_remove(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/file").write_text("")
    (tree / "a/b/file").write_text("")
    os.mkfifo(tree / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []
    remove_tree(tree)
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove_closed_folders(tmp_path: Path) -> None:
    """Overlays leave one with no permission at all."""
    closed = tmp_path / "tree/work/work"
    closed.mkdir(parents=True)
    (closed / "file").write_text("")
    closed.chmod(0)
    closed.parent.chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_remove_follows_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "tree/a/link").symlink_to(kept)
    (tmp_path / "tree/a/hard").hardlink_to(kept / "file")
    remove_tree(tmp_path / "tree")
    assert (kept / "file").read_text() == "kept"
    (tmp_path / "tree").symlink_to(kept)
    with pytest.raises(PermanentError):
        remove_tree(tmp_path / "tree")
    assert (kept / "file").read_text() == "kept"


def test_remove_deep_tree(tmp_path: Path) -> None:
    """Deeper than paths are long and than Python recurses."""
    fd = os.open(tmp_path, os.O_RDONLY)
    name = "tree"
    for _ in range(3000):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, name = below, "deeper"
    os.close(fd)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []
