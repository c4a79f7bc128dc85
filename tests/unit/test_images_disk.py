"""What a disk's first bytes say."""

from __future__ import annotations

import struct

import pytest

from qvd.images.disk import HEAD, boots_code, is_ext, parse_qcow2, partitions
from qvd.images.pack import first_sector


def qcow2(version: int = 3, backing: int = 0, method: int = 0, features: int = 0) -> bytes:
    head = struct.pack(">4sIQII", b"QFI\xfb", version, backing, 0, 16) + struct.pack(">QI", 1 << 33, method)
    return head.ljust(72, b"\0") + struct.pack(">Q", features).ljust(100, b"\0")


def test_headers_of_qcow2() -> None:
    plain = parse_qcow2(qcow2())
    assert plain is not None
    assert (plain.version, plain.backed, plain.encrypted, plain.external) == (3, False, False, False)
    assert getattr(parse_qcow2(qcow2(backing=0x70)), "backed", None) is True
    assert getattr(parse_qcow2(qcow2(method=2)), "encrypted", None) is True
    assert getattr(parse_qcow2(qcow2(features=4)), "external", None) is True


def test_what_only_version_three_has() -> None:
    assert getattr(parse_qcow2(qcow2(version=2, features=4)), "external", None) is False


@pytest.mark.parametrize("data", [b"", b"QFI\xfb", b"x" * 200])
def test_what_is_no_qcow2(data: bytes) -> None:
    assert parse_qcow2(data) is None


def test_a_disk_that_we_make() -> None:
    head = first_sector(b"\xeb" * 512, 1 << 24).ljust(HEAD, b"\0")
    assert list(partitions(head)) == [0, 1 << 20]
    assert boots_code(head)


def test_a_table_without_a_loader() -> None:
    assert not boots_code(first_sector(b"", 1 << 24))
    assert not boots_code(b"")


def test_a_disk_with_gpt() -> None:
    table = b"".join(struct.pack("<16s16sQQ", b"kind", b"id", first, 0).ljust(128, b"\0") for first in (2048, 4096))
    protective = b"\0" * 446 + struct.pack("<4xB3xII", 0xEE, 1, 9).ljust(64, b"\0") + b"\x55\xaa"
    header = struct.pack("<8s64xQII", b"EFI PART", 2, 128, 128).ljust(512, b"\0")
    assert list(partitions((protective + header + table).ljust(HEAD, b"\0"))) == [0, 2048 * 512, 4096 * 512]


def test_hostile_tables_are_bounded() -> None:
    protective = b"\0" * 446 + struct.pack("<4xB3xII", 0xEE, 1, 9) * 4 + b"\x55\xaa"
    header = struct.pack("<8s64xQII", b"EFI PART", 2**64 - 1, 2**32 - 1, 2**32 - 1).ljust(512, b"\0")
    assert list(partitions((protective + header).ljust(HEAD, b"\0"))) == [0]


def test_the_mark_of_ext() -> None:
    assert is_ext(b"\0" * 1080 + b"\x53\xef")
    assert not is_ext(b"\0" * 2048)
