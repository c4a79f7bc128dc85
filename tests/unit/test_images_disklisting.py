"""Files on a disk, found by C{debugfs}."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qvd.images.commands import BuildError, Commands
from qvd.images.disklisting import ask, parse_folder, raw_disk, system_on
from qvd.images.files import names_in, resolve
from tests.conftest import require

SIZE = 8 << 20


def disk(folder: Path, offset: int = 0) -> Path:
    """A file system with some files, at that place of a disk."""
    require("mke2fs", "debugfs")
    tree = folder / "tree"
    (tree / "etc/empty").mkdir(parents=True)
    (tree / "etc/name").write_text("four")
    (tree / "short").symlink_to("etc/name")
    (tree / "long").symlink_to("./" * 50 + "etc/name")
    (tree / "odd; quit").symlink_to("etc")
    (tree / "through").symlink_to("odd; quit/name")
    raw = folder / "raw"
    raw.write_bytes(b"")
    with raw.open("r+b") as file:
        file.truncate(offset + SIZE)
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), "-E", f"offset={offset}"]
    Commands().run(*words, str(raw), f"{SIZE >> 10}k")
    return raw


def test_a_file_system_over_the_whole_disk(tmp_path: Path) -> None:
    files = system_on(disk(tmp_path))
    assert files is not None
    assert sorted(names_in(files, "etc")) == ["empty", "name"]
    found = resolve(files, "etc/name")
    assert found is not None
    assert (stat.S_ISREG(found[1].mode), found[1].size) == (True, 4)


def test_links_of_both_kinds(tmp_path: Path) -> None:
    files = system_on(disk(tmp_path))
    assert files is not None
    assert [resolve(files, name) is not None for name in ("short", "long")] == [True, True]
    assert files.look("gone") is None


def test_names_that_debugfs_would_take_for_more_are_not_asked_for(tmp_path: Path) -> None:
    files = system_on(disk(tmp_path))
    assert files is not None
    assert resolve(files, "through") is None
    assert not files.names("odd; quit")


def test_a_disk_without_a_system(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"\0" * SIZE)
    assert system_on(raw) is None


def test_lines_of_a_folder() -> None:
    text = "/2/040755/0/0/.//\n/2/040755/0/0/..//\n/12/100755/0/0/sh/1024/\n/13/120777/0/0/link/4/\nnoise\n"
    entries = dict(parse_folder(text))
    assert sorted(entries) == ["link", "sh"]
    assert (entries["sh"].mode, entries["sh"].size) == (0o100755, 1024)
    assert entries["link"].is_link


def test_a_disk_is_read_through_qcow2_and_the_copy_goes(tmp_path: Path) -> None:
    require("qemu-img")
    packed = tmp_path / "disk.qcow2"
    Commands().run("qemu-img", "convert", "-O", "qcow2", str(disk(tmp_path)), str(packed))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with raw_disk(packed, scratch) as raw:
        assert system_on(raw) is not None
    assert not any(scratch.iterdir())


def test_what_fails_is_told() -> None:
    with pytest.raises(BuildError, match="sh failed: no such thing"):
        ask("sh", "-c", "echo no such thing >&2; exit 1")
    with pytest.raises(BuildError, match="no-such-program is missing"):
        ask("no-such-program")
