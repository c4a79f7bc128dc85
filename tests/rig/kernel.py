"""
A Linux kernel for guests of the tests, taken out of Debian's package and never installed.

It is fetched outside the private world, which has no network.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.rig.world import PROJECT

CACHE = PROJECT / ".cache/kernel"
PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_console",
)
"""In the order in which they can be loaded."""
SECONDS = 120


def kernel() -> Path | None:
    """Folder with C{vmlinuz} and L{MODULES}, each C{NAME.ko}; L{None}: it was not fetched."""
    return CACHE if (CACHE / "vmlinuz").exists() else None


def fetch() -> None:
    """Fetch it, once. Where that cannot be, it is not there."""
    if kernel() is not None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            unpack(Path(scratch))
        except (OSError, subprocess.SubprocessError, StopIteration):
            return


def unpack(scratch: Path) -> None:
    listed = run(["apt-cache", "depends", PACKAGE], scratch)
    name = next(word for word in listed.split() if word.startswith("linux-image-") and word != PACKAGE)
    run(["apt-get", "download", "-q", name], scratch)
    package = next(scratch.glob("*.deb"))
    run(["dpkg-deb", "-x", str(package), "root"], scratch)
    ready = scratch / "ready"
    ready.mkdir()
    shutil.copy(next(scratch.glob("root/boot/vmlinuz-*")), ready / "vmlinuz")
    for module in MODULES:
        shutil.copy(next(scratch.rglob(f"{module}.ko")), ready)
    CACHE.parent.mkdir(exist_ok=True)
    shutil.copytree(ready, CACHE.with_suffix(".new"), dirs_exist_ok=True)
    CACHE.with_suffix(".new").rename(CACHE)


def run(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout
