# -*- test-case-name: tests.unit.test_images_check,tests.images.test_build -*-
"""Looks whether a file is an image that QVD can start, without unpacking or mounting it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from qvd.images.commands import BuildError
from qvd.images.disk import Qcow2, boots_code, parse_qcow2
from qvd.images.disklisting import head_of, raw_disk, system_on
from qvd.images.files import ListedFiles
from qvd.images.needs import Finding, findings
from qvd.images.recipe import KVM, LXC
from qvd.images.tarlisting import list_tar
from qvd.model.errors import InvalidRequest
from qvd.model.imagetype import HEAD, ImageType, driver_of, sniff

CHECK_SECONDS = 600
# What `qemu-img check` says by its exit status.
SOUND, LEAKING = 0, 3


@frozen
class Report:
    """What was found.

    @ivar kind: the driver that the image is for; L{None}: none.
    @ivar notes: what could not be looked at.
    """

    kind: str | None
    findings: Sequence[Finding]
    notes: Sequence[str] = ()

    @property
    def good(self) -> bool:
        return self.kind is not None and not self.findings

    def document(self) -> dict[str, Any]:
        """For a program."""
        wrong = [{"what": finding.what, "remedy": finding.remedy} for finding in self.findings]
        return {"type": self.kind, "good": self.good, "findings": wrong, "notes": list(self.notes)}


def type_of(path: Path) -> ImageType:
    """By content.

    @raise InvalidRequest: there is no such file.
    """
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD))
    except IsADirectoryError:
        raise InvalidRequest(f"{path} is a folder: images of the driver sandbox are not checked") from None
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None


def check(path: Path) -> Report:
    """Look at all of it.

    @raise InvalidRequest: there is no such file.
    @raise BuildError: a program that is needed for it is missing.
    """
    kind = type_of(path)
    match driver_of(kind):
        case "lxc":
            return check_tar(path, kind)
        case "kvm":
            return check_disk(path)
        case _:
            remedy = "make a tar archive (lxc) or a qcow2 disk (kvm) of it"
            return Report(None, [Finding(f"it is {kind.value}, which no driver starts", remedy)])


def check_tar(path: Path, kind: ImageType) -> Report:
    try:
        entries, bad = list_tar(path, kind)
    except BuildError as error:
        return Report(LXC, [Finding(error.text, "build or copy it again")])
    return Report(LXC, [*bad, *findings(ListedFiles(entries), LXC)])


def check_disk(path: Path) -> Report:
    with path.open("rb") as file:
        bad = wrong_header(parse_qcow2(file.read(HEAD)))
    # A file of its own, with all its data: only then is it safe to have it read.
    bad = bad or damage(path)
    if bad is not None:
        return Report(KVM, [bad])
    with tempfile.TemporaryDirectory(prefix="qvd-image-check-") as folder, raw_disk(path, Path(folder)) as raw:
        boot = [] if boots_code(head_of(raw)) else [NO_LOADER]
        files = system_on(raw)
        if files is None:
            return Report(
                KVM, boot, ["It has no ext4 file system with a Linux system, so its files were not looked at"]
            )
        return Report(KVM, [*boot, *findings(files, KVM)])


NO_LOADER = Finding("nothing on it boots (its first sector)", "install a boot loader, such as grub, for BIOS")


def wrong_header(header: Qcow2 | None) -> Finding | None:
    if header is None:
        return Finding("its header is cut off", "build or copy it again")
    if header.backed:
        return Finding("it is only a layer above another file", "join them: qemu-img convert -O qcow2 FILE NEW")
    if header.external:
        return Finding("its data is in another file", "join them: qemu-img convert -O qcow2 FILE NEW")
    return Finding("it is encrypted", "make one that is not: nodes have no key") if header.encrypted else None


def damage(path: Path) -> Finding | None:
    words = ["qemu-img", "check", "-q", "-f", "qcow2", str(path)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_SECONDS, check=False)
    except FileNotFoundError:
        raise BuildError("The program qemu-img is missing: install the package qemu-utils") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"qemu-img check did not end within {CHECK_SECONDS} s") from None
    if done.returncode in (SOUND, LEAKING):
        return None
    return Finding("it is damaged (qemu-img check)", "build or copy it again")
