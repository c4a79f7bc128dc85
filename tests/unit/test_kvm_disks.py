"""Disks: what is run, and what of an image is refused. C{qemu-img} is not needed: its words are recorded."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qvd.hkd.hypervisor.kvm import disks
from qvd.model.errors import PermanentError, TransientError

GOOD: dict[str, Any] = {"format": "qcow2", "virtual-size": 1 << 30, "format-specific": {"data": {"compat": "1.1"}}}


def test_a_good_image() -> None:
    disks.judge("x", GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "raw"}, "no qcow2 disk"),
        ({"backing-filename": "/etc/shadow"}, "refers to another file, '/etc/shadow'"),
        ({"encrypted": True}, "encrypted"),
        ({"format-specific": {"data": {"data-file": "/etc/shadow"}}}, "in another file"),
        ({"format-specific": {"data": {"corrupt": True}}}, "corrupt"),
        ({"virtual-size": 1 << 60}, "claims a size"),
        ({"virtual-size": 0}, "claims a size"),
    ],
)
def test_what_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentError, match=said):
        disks.judge("x", GOOD | change)


@pytest.mark.parametrize("start", [b"", b"hello", b"PK\x03\x04", b"ustar", b"QFI"])
def test_other_files_are_not_even_looked_into(tmp_path: Path, start: bytes) -> None:
    image = tmp_path / "x"
    image.write_bytes(start)
    with pytest.raises(PermanentError, match="The image x is no qcow2 disk"):
        disks.check_image(image)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="The image x does not exist on this node"):
        disks.check_image(tmp_path / "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(PermanentError, match="no qcow2 disk"):
        disks.check_image(tmp_path / "x")


def test_the_words() -> None:
    assert disks.info_words("/i")[-7:] == ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", "/i"]
    assert disks.info_words("/i")[0] == "prlimit"
    assert disks.overlay_words("/b", "/o") == "qemu-img create -q -f qcow2 -F qcow2 -b /b /o".split()
    assert disks.disk_words("/u", 4096) == "qemu-img create -q -f qcow2 /u 4096".split()


class Runs:
    """Stands for C{subprocess.run}."""

    def __init__(self, code: int = 0, error: bytes = b"", hangs: bool = False) -> None:
        self.code, self.error, self.hangs = code, error, hangs

    def __call__(self, words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert options["timeout"] == disks.SECONDS
        if self.hangs:
            raise subprocess.TimeoutExpired(words, disks.SECONDS)
        if self.code == 0:
            Path(words[-2] if words[-1].isdecimal() else words[-1]).write_text("made")
        return subprocess.CompletedProcess(words, self.code, b"out", self.error)


def test_a_disk_gets_its_name_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Runs())
    disks.make_disk(tmp_path / "homes/1/9.qcow2", 4096)
    disks.make_overlay(tmp_path / "b", tmp_path / "o")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["9.qcow2", "o"]


@pytest.mark.parametrize(
    ("fake", "kind", "said"),
    [
        (Runs(1, b"qemu-img: /o: Could not create: No space left on device\n"), TransientError, "No space left"),
        (Runs(1, b"qemu-img: /o: Read-only file system"), TransientError, "Read-only"),
        (Runs(1, b"qemu-img: nonsense"), PermanentError, "nonsense"),
        (Runs(1), PermanentError, "qemu-img failed"),
        (Runs(hangs=True), TransientError, "the storage may hang"),
    ],
)
def test_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Runs, kind: type[Exception], said: str
) -> None:
    monkeypatch.setattr(subprocess, "run", fake)
    with pytest.raises(kind, match=said):
        disks.make_disk(tmp_path / "u", 4096)
    assert not (tmp_path / "u").exists()
