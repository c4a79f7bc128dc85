"""Verdicts on files of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.images.check import check
from qvd.images.commands import Commands
from qvd.model.errors import InvalidRequest
from tests.conftest import require
from tests.unit.imagefiles import CONTAINER
from tests.unit.tars import tar_bytes


def written(folder: Path, data: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(data)
    return path


def test_a_good_archive(tmp_path: Path) -> None:
    report = check(written(tmp_path, tar_bytes(CONTAINER)))
    assert report.document() == {"type": "lxc", "good": True, "findings": [], "notes": []}


def test_an_archive_that_lacks_something(tmp_path: Path) -> None:
    report = check(written(tmp_path, tar_bytes({**CONTAINER, "usr/bin/nxagent": "gone"})))
    assert not report.good
    assert report.document()["findings"] == [
        {"what": "nxagent is missing (/usr/bin/nxagent)", "remedy": "install the package nxagent"}
    ]


def test_a_damaged_archive(tmp_path: Path) -> None:
    report = check(written(tmp_path, tar_bytes(CONTAINER)[:1500]))
    assert [finding.remedy for finding in report.findings] == ["build or copy it again"]


@pytest.mark.parametrize("data", [b"", b"text", b"\0" * 510 + b"\x55\xaa"])
def test_files_that_no_driver_starts(tmp_path: Path, data: bytes) -> None:
    report = check(written(tmp_path, data))
    assert (report.kind, report.good, len(report.findings)) == (None, False, 1)
    assert "which no driver starts" in report.findings[0].what


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        check(tmp_path / "gone")
    with pytest.raises(InvalidRequest, match="is a folder"):
        check(tmp_path)


class TestDisks:
    """What C{qemu-img} makes."""

    @pytest.fixture(autouse=True)
    def tools(self) -> None:
        require("qemu-img", "debugfs")

    def made(self, folder: Path, *options: str) -> Path:
        path = folder / "disk.qcow2"
        Commands().run("qemu-img", "create", "-f", "qcow2", *options, str(path), "8M")
        return path

    def test_an_empty_one_has_no_system(self, tmp_path: Path) -> None:
        report = check(self.made(tmp_path))
        assert (report.kind, report.good) == ("kvm", False)
        assert "nothing on it boots" in report.findings[0].what
        assert "not looked at" in report.notes[0]

    def test_a_layer_above_another_file(self, tmp_path: Path) -> None:
        secret = written(tmp_path, b"\0" * 65536)
        report = check(self.made(tmp_path, "-b", str(secret), "-F", "raw"))
        assert [finding.what for finding in report.findings] == ["it is only a layer above another file"]

    def test_data_in_another_file(self, tmp_path: Path) -> None:
        report = check(self.made(tmp_path, "-o", f"data_file={tmp_path / 'data'}"))
        assert [finding.what for finding in report.findings] == ["its data is in another file"]

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        path = self.made(tmp_path)
        data = bytearray(path.read_bytes())
        # Where the table of clusters is said to begin.
        data[40:48] = b"\xff" * 8
        path.write_bytes(bytes(data))
        assert check(path).findings[0].what == "it is damaged (qemu-img check)"

    def test_one_that_is_cut_off(self, tmp_path: Path) -> None:
        assert check(written(tmp_path, b"QFI\xfb")).findings[0].what == "its header is cut off"
