# -*- test-case-name: tests.unit.test_model_imagetype -*-
"""What a disk image's file holds, told from its first bytes: names say nothing."""

from __future__ import annotations

from enum import Enum

HEAD = 1024
"""Bytes of a file that L{sniff} wants to see."""


class ImageType(Enum):
    """What is in a file, in words for a sentence."""

    TAR = "a tar archive"
    GZIP = "data compressed by gzip"
    BZIP2 = "data compressed by bzip2"
    XZ = "data compressed by xz"
    ZSTD = "data compressed by zstd"
    QCOW2 = "a disk of a virtual machine (qcow2)"
    DISK = "a raw disk"
    EMPTY = "an empty file"
    UNKNOWN = "a file of an unknown kind"


ARCHIVES = frozenset({ImageType.TAR, ImageType.GZIP, ImageType.BZIP2, ImageType.XZ, ImageType.ZSTD})
"""What the driver C{lxc} can unpack. That compressed data is an archive shows only then."""
MAGIC = (
    (b"\x1f\x8b", ImageType.GZIP),
    (b"BZh", ImageType.BZIP2),
    (b"\xfd7zXZ\0", ImageType.XZ),
    (b"\x28\xb5\x2f\xfd", ImageType.ZSTD),
    (b"QFI\xfb", ImageType.QCOW2),
)
BLOCK = 512
CHECKSUM = slice(148, 156)
"""Of a tar header: the sum of its bytes, as if there were spaces here."""


def sniff(head: bytes) -> ImageType:
    """@param head: the first L{HEAD} bytes of a file, or all where it is shorter."""
    if not head:
        return ImageType.EMPTY
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if is_tar_header(head[:BLOCK]):
        return ImageType.TAR
    if head[510:512] == b"\x55\xaa" or head[512:520] == b"EFI PART":
        return ImageType.DISK
    return ImageType.UNKNOWN


def is_tar_header(block: bytes) -> bool:
    """Every tar since the first one has this sum, and no other file is likely to."""
    if len(block) < BLOCK:
        return False
    digits = block[CHECKSUM].strip(b" \0")
    if not digits or not set(digits) <= set(b"01234567"):
        return False
    return int(digits, 8) == sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")


def driver_of(kind: ImageType) -> str | None:
    """The driver that boots such an image; L{None}: none does."""
    if kind in ARCHIVES:
        return "lxc"
    return "kvm" if kind is ImageType.QCOW2 else None
