"""What is said of archives, sound ones and others, without unpacking them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from qvd.images.commands import BuildError
from qvd.images.tarlisting import Forward, collect, compressor, list_tar
from qvd.model.imagetype import ImageType
from tests.conftest import require
from tests.unit.tars import Content, special, tar_bytes

PLAIN = tar_bytes({"etc/": b"", "etc/passwd": b"root", "sh": "bin/dash"})


def bad_of(members: dict[str, Content]) -> list[str]:
    return [str(finding) for finding in collect(io.BytesIO(tar_bytes(members)))[1]]


def test_entries() -> None:
    entries, bad = collect(io.BytesIO(PLAIN))
    assert bad == []
    assert sorted(entries) == ["etc", "etc/passwd", "sh"]
    assert entries["etc"].is_folder
    assert (entries["etc/passwd"].size, entries["etc/passwd"].is_program) == (4, True)
    assert (entries["sh"].is_link, entries["sh"].target) == (True, "bin/dash")


def test_names_begin_as_tar_has_them() -> None:
    entries, _ = collect(io.BytesIO(tar_bytes({"./": b"", "./usr/bin/sh": b"x"})))
    assert sorted(entries) == ["usr", "usr/bin", "usr/bin/sh"]


def test_a_hard_link_is_the_file_itself() -> None:
    entries, _ = collect(io.BytesIO(tar_bytes({"a": b"four", "b": special("b", tarfile.LNKTYPE, "a")})))
    assert entries["b"] == entries["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("../evil", b"x", "paths that lead out of the image (../evil)"),
        ("usr/../../evil", b"x", "paths that lead out"),
        ("/etc/passwd", b"x", "paths that lead out"),
        ("sda", special("sda", tarfile.BLKTYPE), "device nodes (sda)"),
        ("dev/sda", special("dev/sda", tarfile.BLKTYPE), "device nodes"),
        ("dev/mem", special("dev/mem", tarfile.CHRTYPE), "device nodes"),
        ("tmp/null", special("tmp/null", tarfile.CHRTYPE), "device nodes"),
        ("x", special("x", tarfile.LNKTYPE, "../../etc/shadow"), "links to files outside"),
        ("x", special("x", tarfile.LNKTYPE, "/etc/shadow"), "links to files outside"),
    ],
)
def test_members_that_a_node_refuses(name: str, content: Content, words: str) -> None:
    assert [words in line for line in bad_of({"etc/": b"", name: content})] == [True]


def test_a_file_behind_a_link_could_be_anywhere() -> None:
    assert "files behind symbolic links (out/evil)" in bad_of({"out": "/etc", "out/evil": b"x"})[0]


def test_the_usual_devices_are_left_away_by_nodes() -> None:
    assert bad_of({"dev/null": special("dev/null", tarfile.CHRTYPE)}) == []


def test_many_bad_members_are_one_line() -> None:
    lines = bad_of({f"../{number}\x1b": b"" for number in range(100)})
    assert len(lines) == 1
    assert "and 95 more" in lines[0]
    assert "\\x1b" in lines[0]


@pytest.mark.parametrize("length", [100, 512, 600, 1024, 1500])
def test_an_archive_that_is_cut_off(length: int) -> None:
    with pytest.raises((tarfile.TarError, EOFError)):
        collect(io.BytesIO(PLAIN[:length]))


def test_a_damaged_header_is_not_the_end() -> None:
    damaged = bytearray(PLAIN)
    damaged[512] ^= 1
    with pytest.raises(tarfile.TarError):
        collect(io.BytesIO(bytes(damaged)))


def test_a_header_may_not_fill_the_memory() -> None:
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.XHDTYPE, 1 << 34
    with pytest.raises(tarfile.ReadError, match="without measure"):
        collect(io.BytesIO(long.tobuf(tarfile.GNU_FORMAT)))


def test_reading_in_one_direction() -> None:
    file = Forward(io.BytesIO(b"0123456789"))
    file.seek(4)
    assert (file.read(2), file.tell()) == (b"45", 6)
    with pytest.raises(tarfile.ReadError):
        file.seek(11)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ImageType.TAR, PLAIN),
        (ImageType.GZIP, gzip.compress(PLAIN, mtime=0)),
        (ImageType.BZIP2, bz2.compress(PLAIN)),
        (ImageType.XZ, lzma.compress(PLAIN)),
    ],
)
def test_compressed_ones(kind: ImageType, data: bytes, tmp_path: Path) -> None:
    require("gzip", "bzip2", "xz")
    path = tmp_path / "image"
    path.write_bytes(data)
    assert sorted(list_tar(path, kind)[0]) == ["etc", "etc/passwd", "sh"]
    path.write_bytes(data[:1500] if kind is ImageType.TAR else data[: len(data) // 2])
    with pytest.raises(BuildError, match=r"damaged|no sound archive"):
        list_tar(path, kind)


def test_data_that_is_no_archive(tmp_path: Path) -> None:
    require("gzip")
    path = tmp_path / "image"
    path.write_bytes(gzip.compress(b"text" * 1000))
    with pytest.raises(BuildError, match="no sound archive"):
        list_tar(path, ImageType.GZIP)


def test_the_name_says_how_it_is_packed() -> None:
    assert compressor("a.tar.zst")[0] == "zstd"
    assert compressor("a.tar") == ()
