"""Both kinds of images, as C{qvd-image build} makes them from the net."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qvd.images.check import check
from qvd.images.cli import main
from qvd.images.commands import Commands
from qvd.images.disklisting import raw_disk, system_on
from qvd.images.files import ListedFiles, names_in, resolve
from qvd.images.needs import findings
from qvd.images.recipe import KVM, LXC
from qvd.images.tarlisting import list_tar
from qvd.model.imagetype import ImageType
from tests.conftest import require
from tests.rig.images import desktop_image

pytestmark = [pytest.mark.private, pytest.mark.images("lxc", "kvm")]

TAKEN_OUT = {
    "usr/bin/nxagent": "nxagent is missing",
    "usr/bin/qvd-vma": "the agent is missing",
    "etc/X11/Xsession": "the session program is missing",
    "usr/bin/xauth": "xauth is missing",
    "usr/sbin/useradd": "useradd is missing",
    "etc/systemd/system/multi-user.target.wants/qvd-vma.service": "the agent does not start with the system",
    "usr/bin/pulseaudio": "sound is missing",
    "usr/sbin/cupsd": "printing is missing",
}


@pytest.fixture(scope="module")
def listed() -> ListedFiles:
    entries, bad = list_tar(desktop_image(LXC), ImageType.ZSTD)
    assert bad == []
    return ListedFiles(entries)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with raw_disk(desktop_image(KVM), tmp_path_factory.mktemp("disk")) as path:
        yield path


@pytest.mark.parametrize("kind", [LXC, KVM])
def test_nothing_is_missing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(desktop_image(kind))]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["type"], document["good"], document["findings"], document["notes"]) == (kind, True, [], [])


def test_it_is_only_what_is_needed(listed: ListedFiles) -> None:
    """No devices, no lists of packages, nobody's name, and no user."""
    assert names_in(listed, "dev") == ()
    assert names_in(listed, "run") == ()
    assert [path for path, entry in listed.entries.items() if entry.is_device] == []
    assert set(names_in(listed, "var/lib/apt/lists")) <= {"lock", "partial"}
    assert names_in(listed, "var/cache/apt/archives/partial") == ()
    assert names_in(listed, "home") == ()
    assert resolve(listed, "etc/hostname") is None
    assert [name for name in names_in(listed, "") if "qvd" in name] == []


@pytest.mark.parametrize(("path", "words"), TAKEN_OUT.items())
def test_an_archive_without_one_thing(listed: ListedFiles, path: str, words: str) -> None:
    rest = {name: entry for name, entry in listed.entries.items() if name != path}
    assert len(rest) == len(listed.entries) - 1
    assert words in [finding.what.partition(" (")[0] for finding in findings(ListedFiles(rest), LXC)]


def test_a_disk_without_one_thing_after_the_other(raw: Path) -> None:
    files = system_on(raw)
    assert files is not None
    assert [*findings(files, KVM)] == []
    for count, (path, words) in enumerate(TAKEN_OUT.items(), 1):
        Commands().run("debugfs", "-w", "-R", f"rm /{path}", files.device)
        files = system_on(raw)
        assert files is not None
        said = [finding.what.partition(" (")[0] for finding in findings(files, KVM)]
        # Without its unit's link the agent does not start, and that is another line.
        assert words in said
        assert len(said) == count


def test_an_archive_from_which_a_file_was_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("zstd", "tar")
    poorer = tmp_path / "poorer.tar"
    with poorer.open("wb") as out:
        unpack = subprocess.Popen(["zstd", "-dcq", str(desktop_image(LXC))], stdout=subprocess.PIPE)
        subprocess.run(["tar", "--delete", "./usr/bin/nxagent"], stdin=unpack.stdout, stdout=out, check=True)
        assert unpack.wait() == 0
    assert main(["check", str(poorer)]) == 1
    assert "nxagent is missing (/usr/bin/nxagent): install the package nxagent" in capsys.readouterr().out


def test_a_disk_without_its_loader(raw: Path, tmp_path: Path) -> None:
    with raw.open("r+b") as file:
        code = file.read(440)
        file.seek(0)
        file.write(b"\0" * 440)
    packed = tmp_path / "dead.qcow2"
    Commands().run("qemu-img", "convert", "-O", "qcow2", str(raw), str(packed))
    with raw.open("r+b") as file:
        file.write(code)
    assert "nothing on it boots" in check(packed).findings[0].what
