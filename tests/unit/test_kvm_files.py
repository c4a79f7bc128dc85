"""Files of virtual machines. C{qemu-img} is not run: a disk is a file that says what it was made of."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from qvd.hkd.hypervisor.kvm import files as module
from qvd.hkd.hypervisor.kvm.files import KvmFiles, KvmLayout
from qvd.model.errors import PermanentError
from qvd.model.ids import TenantId, VMId
from qvd.model.records import Persistence, VMSpec
from qvd.model.secret import Secret

NINE = VMId(9)
SPEC = VMSpec(NINE, TenantId(1), "desk", "alice", None, "desk.qcow2", 1 << 29, "1/9", Secret("s"))


def ignore(text: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KvmLayout:
    def make(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    monkeypatch.setattr(module, "make_overlay", lambda base, overlay: make(overlay, base.name))
    monkeypatch.setattr(module, "make_disk", lambda path, size: make(path, str(size)))
    monkeypatch.setattr(module, "check_image", lambda path: None)
    monkeypatch.setattr(module, "LONGEST_SOCKET", 4096)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/desk.qcow2").write_bytes(b"desk")
    run, images, homes, overlays = (tmp_path / name for name in ("run", "images", "homes", "overlays"))
    return KvmLayout(run, images, homes, overlays, "n1", tmp_path / "pids", 4096)


@pytest.fixture
def files(layout: KvmLayout) -> KvmFiles:
    return KvmFiles(layout)


def test_a_run_has_a_new_layer_and_an_old_home(files: KvmFiles, layout: KvmLayout) -> None:
    disks = files.lay_out(SPEC)
    assert disks.base == layout.images / "desk.qcow2"
    assert disks.overlay == layout.overlays / "9/disk.qcow2"
    assert disks.user == layout.homes / "1/9.qcow2"
    assert disks.user.read_text() == "4096"
    for path in (disks.overlay, disks.user):
        path.write_text("used")
    again = files.lay_out(evolve(SPEC, user_storage=9))
    assert (again.overlay.read_text(), disks.user.read_text()) == ("desk.qcow2", "used")
    files.clean(NINE)
    assert sorted(path.name for path in layout.overlays.iterdir()) == []
    assert not (layout.run / "vms/9").exists()
    assert disks.user.exists()


def test_the_osf_says_how_much(files: KvmFiles) -> None:
    user = files.lay_out(evolve(SPEC, user_storage=9)).user
    assert user is not None
    assert user.read_text() == "9"


def test_nothing_is_kept(files: KvmFiles) -> None:
    assert files.lay_out(evolve(SPEC, persistence=Persistence.NOTHING)).user is None


def test_everything_is_kept_image_by_image(files: KvmFiles) -> None:
    """Taking a change of images back finds what was there before."""
    old = evolve(SPEC, persistence=Persistence.EVERYTHING, checksum="a")
    new = evolve(old, checksum="b")
    overlay = files.lay_out(old).overlay
    overlay.write_text("used")
    files.clean(NINE)
    other = files.lay_out(new).overlay
    assert other != overlay
    assert overlay.parent.name == "persistent"
    files.clean(NINE)
    assert files.lay_out(old).overlay.read_text() == "used"


def test_what_another_node_made_is_not_ours(files: KvmFiles, layout: KvmLayout) -> None:
    other = KvmFiles(evolve(layout, node="n2", run=layout.run.with_name("run2")))
    overlay = files.lay_out(SPEC).overlay
    assert (files.ids(), other.ids()) == ({NINE}, set())
    other.clean(NINE)
    assert overlay.exists()
    other.lay_out(SPEC)
    assert other.ids() == {NINE}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": ""}, "has no disk image"),
        ({"image": "a/b"}, "is not the name of an image"),
        ({"image": ".."}, "not one below"),
        ({"image_type": "lxc"}, "is one for lxc, not for kvm"),
        ({"home": "../9"}, "not one below"),
    ],
)
def test_what_is_refused(files: KvmFiles, change: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentError, match=said):
        files.prepare(evolve(SPEC, **change), ignore)


def test_sockets_need_room(files: KvmFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SOCKET", 10)
    with pytest.raises(PermanentError, match=r"path\.run\) is too long"):
        files.prepare(SPEC, ignore)


def test_a_checksum_is_computed_once_for_a_file_as_it_is(layout: KvmLayout) -> None:
    good = evolve(SPEC, checksum=hashlib.sha256(b"desk").hexdigest())
    heard: list[str] = []
    KvmFiles(layout).verify(good, heard.append)
    KvmFiles(layout).verify(good, heard.append)
    assert heard == ["Checking the image, 100 %"]
    image = layout.images / "desk.qcow2"
    image.write_bytes(b"other")
    os.utime(image, (1, 1))
    with pytest.raises(PermanentError, match="its checksum differs"):
        KvmFiles(layout).verify(good, ignore)
    assert len(json.loads((layout.run / "checksums.json").read_text())) == 1


def test_no_lease_no_start(layout: KvmLayout, tmp_path: Path) -> None:
    lease = tmp_path / "lease.json"
    files = KvmFiles(evolve(layout, lease=lease))
    lease.write_text('{"until": 1e12}')
    files.check_lease()
    lease.write_text('{"until": 0}')
    with pytest.raises(PermanentError, match="The lease of this node is over"):
        files.check_lease()
