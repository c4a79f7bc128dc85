# -*- test-case-name: tests.unit.test_images_disk -*-
"""What the bytes of a virtual disk say: the header of qcow2, and where file systems are."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attrs import frozen

SECTOR = 512
QCOW2_HEADER = struct.Struct(">4sIQI")
FEATURES = struct.Struct(">Q")
FEATURES_AT = 72
EXTERNAL_DATA = 1 << 2
ENCRYPTION_AT = 32
HEAD = 40 * SECTOR
"""Bytes of a disk that L{partitions} wants to see."""
PROTECTIVE = 0xEE
GPT_HEADER = struct.Struct("<8s64xQII")
GPT_ENTRY = struct.Struct("<16s16sQQ")
MOST_PARTITIONS = 128
EXT_MAGIC_AT, EXT_MAGIC = 1024 + 56, b"\x53\xef"
BOOT_SIGNATURE_AT, BOOT_SIGNATURE = 510, b"\x55\xaa"


@frozen
class Qcow2:
    """What its header says.

    @ivar backed: it is only what differs from another file.
    @ivar external: its data is in another file.
    """

    version: int
    backed: bool
    encrypted: bool
    external: bool


def parse_qcow2(head: bytes) -> Qcow2 | None:
    """@return: L{None}: it is no such file."""
    if len(head) < FEATURES_AT + FEATURES.size:
        return None
    magic, version, backing, _ = QCOW2_HEADER.unpack_from(head)
    if magic != b"QFI\xfb":
        return None
    features = FEATURES.unpack_from(head, FEATURES_AT)[0] if version >= 3 else 0
    encrypted = any(head[ENCRYPTION_AT : ENCRYPTION_AT + 4])
    return Qcow2(version, backing != 0, encrypted, bool(features & EXTERNAL_DATA))


def partitions(head: bytes) -> Iterator[int]:
    """Where, in bytes, there may be a file system.

    @param head: the first L{HEAD} bytes of the disk.
    """
    yield 0
    if not bootable(head):
        return
    for number in range(4):
        entry = head[446 + 16 * number : 462 + 16 * number]
        kind, first = entry[4], struct.unpack_from("<I", entry, 8)[0]
        if kind == PROTECTIVE:
            yield from gpt_partitions(head)
        elif kind and first:
            yield first * SECTOR


def gpt_partitions(head: bytes) -> Iterator[int]:
    magic, at, count, size = GPT_HEADER.unpack_from(head, SECTOR)
    if magic != b"EFI PART" or size < GPT_ENTRY.size:
        return
    for number in range(min(count, MOST_PARTITIONS)):
        start = at * SECTOR + number * size
        if start + GPT_ENTRY.size > len(head):
            return
        kind, _, first, _ = GPT_ENTRY.unpack_from(head, start)
        if any(kind) and first:
            yield first * SECTOR


def bootable(head: bytes) -> bool:
    """A firmware of the old kind would start what is in the first sector."""
    return head[BOOT_SIGNATURE_AT : BOOT_SIGNATURE_AT + 2] == BOOT_SIGNATURE


def boots_code(head: bytes) -> bool:
    """There is something to start, too, and not only a table of partitions."""
    return bootable(head) and any(head[:440])


def is_ext(start: bytes) -> bool:
    """@param start: the first 2 KiB of what may be a file system."""
    return start[EXT_MAGIC_AT : EXT_MAGIC_AT + 2] == EXT_MAGIC
