# -*- test-case-name: tests.unit.test_kvm_disks -*-
"""
The disks of virtual machines: qcow2 files, made and looked at by C{qemu-img}. It all blocks: it is for threads.

An image is looked at before it is used, and by nobody's guess of its format: what calls itself raw may be a qcow2 that
refers to a file of the node.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qvd.model.errors import PermanentError, TransientError

QEMU_IMG = "qemu-img"
SECONDS = 20.0
"""For one C{qemu-img}."""
LIMITS = ("prlimit", "--as=1073741824", "--cpu=20", "--core=0", "--")
"""What a C{qemu-img} that reads an image may use: bytes of memory, seconds of a processor."""
MAGIC = b"QFI\xfb"
MOST_DISK = 64 << 40
"""Bytes that an image may claim to hold."""
NOT_OURS = {
    "backing-filename": "refers to another file, {0!r}",
    "encrypted": "is encrypted",
}


def info_words(image: str) -> Sequence[str]:
    """The command that looks at an image, without opening what it refers to."""
    return [*LIMITS, QEMU_IMG, "info", "-U", "-f", "qcow2", "--output=json", image]


def overlay_words(base: str, overlay: str) -> Sequence[str]:
    """The command that makes a layer on top of an image."""
    return [QEMU_IMG, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay]


def disk_words(path: str, size: int) -> Sequence[str]:
    """The command that makes an empty disk of so many bytes."""
    return [QEMU_IMG, "create", "-q", "-f", "qcow2", path, str(size)]


def check_image(path: Path) -> None:
    """@raise PermanentError: it is none that a VM may boot from; the sentence says why."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except IsADirectoryError:
        start = b""
    except FileNotFoundError:
        raise PermanentError(f"The image {path.name} does not exist on this node") from None
    if start != MAGIC:
        raise PermanentError(f"The image {path.name} is no qcow2 disk: a virtual machine cannot boot from it")
    judge(path.name, json.loads(run(info_words(str(path)))))


def judge(name: str, info: Mapping[str, Any]) -> None:
    """@param info: what C{qemu-img info --output=json} says of an image.

    @raise PermanentError: it refers to other files, or is not what it should be.
    """
    if info.get("format") != "qcow2":
        raise PermanentError(f"The image {name} is no qcow2 disk: a virtual machine cannot boot from it")
    for key, words in NOT_OURS.items():
        if info.get(key):
            raise PermanentError(f"The image {name} {words.format(info[key])}: that is not allowed")
    details = info.get("format-specific", {}).get("data", {})
    if details.get("data-file") or details.get("data-file-raw"):
        raise PermanentError(f"The image {name} keeps its data in another file: that is not allowed")
    if details.get("corrupt"):
        raise PermanentError(f"The image {name} is marked as corrupt; qemu-img check may repair it")
    if not 0 < int(info.get("virtual-size", 0)) <= MOST_DISK:
        raise PermanentError(f"The image {name} claims a size of {info.get('virtual-size')} bytes")


def make_overlay(base: Path, overlay: Path) -> None:
    """Make a layer on top of C{base}; it gets its name last."""
    make(overlay, overlay_words(str(base), f"{overlay}.new"))


def make_disk(path: Path, size: int) -> None:
    """Make an empty disk, where there is none."""
    make(path, disk_words(f"{path}.new", size))


def make(path: Path, words: Sequence[str]) -> None:
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    run(words)
    os.replace(f"{path}.new", path)


def run(words: Sequence[str]) -> bytes:
    """@raise PermanentError: there is no such program, or it says no.
    @raise TransientError: it did not end in time, or there is no space."""
    try:
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise PermanentError(f"{words[0]} is not installed on this node") from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"qemu-img did not end in {SECONDS:.0f} seconds: the storage may hang") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "replace").strip()[-300:]
    passing = "No space left" in said or "Disk quota" in said or "Read-only file system" in said
    raise (TransientError if passing else PermanentError)(f"A disk cannot be used: {said or 'qemu-img failed'}")
