"""Images told apart by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from qvd.model.imagetype import HEAD, ImageType, driver_of, sniff


def tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("ä" * 120))
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar(form: int) -> None:
    data = tar(form) if form != tarfile.USTAR_FORMAT else tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    assert sniff(data[:HEAD]) is ImageType.TAR


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", ImageType.EMPTY),
        (gzip.compress(b"x", mtime=0), ImageType.GZIP),
        (bz2.compress(b"x"), ImageType.BZIP2),
        (lzma.compress(b"x"), ImageType.XZ),
        (b"\x28\xb5\x2f\xfd....", ImageType.ZSTD),
        (b"QFI\xfb\0\0\0\3", ImageType.QCOW2),
        (bytes(510) + b"\x55\xaa", ImageType.DISK),
        (bytes(512) + b"EFI PART", ImageType.DISK),
        (bytes(HEAD), ImageType.UNKNOWN),
        (b"#!/bin/sh\n", ImageType.UNKNOWN),
        (tar(tarfile.GNU_FORMAT)[:511], ImageType.UNKNOWN),
        (b"\1" + tarfile.TarInfo("a").tobuf()[1:], ImageType.UNKNOWN),
    ],
)
def test_others(head: bytes, kind: ImageType) -> None:
    assert sniff(head) is kind


def test_who_boots_it() -> None:
    assert driver_of(ImageType.ZSTD) == driver_of(ImageType.TAR) == "lxc"
    assert driver_of(ImageType.QCOW2) == "kvm"
    assert driver_of(ImageType.DISK) is driver_of(ImageType.EMPTY) is None
