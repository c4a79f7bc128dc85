# -*- test-case-name: tests.unit.test_storage_names -*-
"""
Names in the folder of unpacked images.

A base's name depends on the identity of its file's content: the registered checksum, or size and time of change where
there is none. So a file that was replaced is another image, and one that was put back is the old one again.
"""

from __future__ import annotations

import re
import secrets
from os import stat_result

ROOT = "rootfs"
"""Folder of a base: the image's root file system."""
MARKER = "image.json"
"""File of a base: C{image}, C{sha256}, C{size} of the file, C{files}, C{bytes} of what was unpacked."""
SHOWN = 16
"""Hexadecimal digits of a checksum in a name."""
LONGEST = 160
"""Bytes of the image's name in the base's, which has more to say in 255."""
SUBVOLUME = ".subvolume"
LEFTOVER = re.compile(r"\.(?P<base>.+)\.[0-9a-f]{16}\.new")


def base_name(image: str, checksum: str | None, status: stat_result | None, *, subvolume: bool) -> str:
    """@param status: of the file; not looked at where there is a checksum.
    @param subvolume: the base is to be one of btrfs; one that is not can be no template.
    """
    if checksum is None:
        assert status is not None
        identity = f"{status.st_size:x}-{status.st_mtime_ns:x}"
    else:
        identity = checksum.lower()[:SHOWN]
    # No base begins with a dot, as what is not one does.
    shown = image.encode()[:LONGEST].decode("utf-8", "ignore").lstrip(".") or "image"
    return f"{shown}@{identity}{SUBVOLUME if subvolume else ''}"


def new_name(base: str) -> str:
    """Of the folder into which a base is unpacked, before it is one."""
    return f".{base}.{secrets.token_hex(8)}.new"


def lock_name(base: str) -> str:
    """Of the file that is locked while a base is unpacked. It stays: a lock file that is removed locks nobody out."""
    return f".{base}.lock"


def base_of(leftover: str) -> str | None:
    """The base that was to become of a folder that L{new_name} named; L{None}: it is no such folder."""
    match = LEFTOVER.fullmatch(leftover)
    return match["base"] if match else None
