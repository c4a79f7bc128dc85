"""Who runs the guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.hkd.hypervisor.kvm.virttype import Facts, Wanted, choose, has_extensions, look, opens


@pytest.mark.parametrize(
    ("wanted", "extensions", "device", "name"),
    [
        ("auto", True, True, "kvm"),
        ("auto", False, True, "qemu"),
        ("auto", True, False, "qemu"),
        ("auto", False, False, "qemu"),
        ("kvm", False, False, "kvm"),
        ("qemu", True, True, "qemu"),
    ],
)
def test_the_device_alone_is_not_trusted(wanted: str, extensions: bool, device: bool, name: str) -> None:
    assert choose(Wanted(wanted), Facts(extensions, device)).name == name


def test_the_reason_is_said() -> None:
    assert "neither svm nor vmx" in choose(Wanted.AUTO, Facts(False, True)).why
    assert "/dev/kvm" in choose(Wanted.AUTO, Facts(True, False)).why
    assert "vm.kvm.virt_type" in choose(Wanted.KVM, Facts(False, False)).why


def test_flags_of_a_processor() -> None:
    assert has_extensions("model name\t: svm\nflags\t\t: fpu vmx sse\n")
    assert has_extensions("flags\t\t: fpu svm\n")
    assert not has_extensions("model name\t: vmx\nflags\t\t: fpu vmxnot\nbugs\t: svm\n")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : svm\n")
    assert not opens(tmp_path / "kvm")
    assert look(tmp_path / "kvm", cpuinfo) == Facts(True, False)
    (tmp_path / "kvm").touch()
    assert look(tmp_path / "kvm", cpuinfo) == Facts(True, True)
