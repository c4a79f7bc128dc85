"""Files that nobody else reads, in folders that nobody else can prepare."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qvd.agent.account import Account
from qvd.agent.folders import Folders, first_possible, open_folders
from qvd.model.errors import SettingsError

OWN = Account("alice", os.getuid(), os.getgid(), "/home/alice", "/bin/sh", False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_folders_are_made(tmp_path: Path) -> None:
    folders = open_folders(str(tmp_path / "run/qvd"), str(tmp_path / "log/qvd"))
    assert folders == Folders(tmp_path / "run/qvd", tmp_path / "log/qvd")
    assert mode(folders.run) == (0o755 if os.getuid() == 0 else 0o700)
    assert open_folders(str(folders.run), str(folders.log)) == folders


def test_without_a_log_folder_there_is_one_beside_the_run_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert open_folders(str(tmp_path / "run"), str(tmp_path / "file")).log == tmp_path / "run" / "log"


@pytest.mark.parametrize("path", ["run", "/run/q,vd", "/run/q:1", "/run/q vd", ""])
def test_the_path_must_fit_into_a_display_name(path: str) -> None:
    with pytest.raises(SettingsError, match=r"path\.run"):
        open_folders(path, "/var/log/qvd")


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = Folders(tmp_path, None).write("secret", b"one", OWN)
    assert path.read_bytes() == b"one"
    assert mode(path) == 0o600
    Folders(tmp_path, None).write("secret", b"two", OWN)
    assert path.read_bytes() == b"two"
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_links_in_the_way_are_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    for name in ("secret", "secret.new"):
        (tmp_path / name).symlink_to(target)
    Folders(tmp_path, None).write("secret", b"one", OWN)
    assert target.read_bytes() == b"precious"
    assert (tmp_path / "secret").read_bytes() == b"one"
    assert not (tmp_path / "secret").is_symlink()


def test_a_folder_is_its_owners_alone(tmp_path: Path) -> None:
    path = Folders(tmp_path, None).make("user", OWN)
    assert mode(path) == 0o700
    assert Folders(tmp_path, None).make("user", OWN) == path


def test_a_link_is_no_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert first_possible([tmp_path / "link", tmp_path / "other"], 0o700) == tmp_path / "other"


def test_no_place_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert first_possible([tmp_path / "file", tmp_path / "file" / "below"], 0o700) is None


@pytest.mark.skipif(os.getuid() != 0, reason="missing: root")
def test_roots_files_are_handed_over(tmp_path: Path) -> None:
    other = Account("alice", 54321, 54322, "/home/alice", "/bin/sh", True)
    folders = Folders(tmp_path, None)
    for _ in range(2):
        for path in (folders.write("secret", b"one", other), folders.make("user", other)):
            assert (path.lstat().st_uid, path.lstat().st_gid) == (54321, 54322)
