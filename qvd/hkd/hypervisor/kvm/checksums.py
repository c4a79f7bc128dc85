# -*- test-case-name: tests.unit.test_kvm_files -*-
"""Checksums of images, computed once for each file as it is. It all blocks: it is for threads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

from qvd.hkd.hypervisor.state import write_private
from qvd.model.errors import PermanentError

CHUNK = 4 << 20
"""Bytes between two words on the progress, at most."""


class Checksums:
    """What was found is kept in a file, so that a daemon that starts again need not read all images again.

    @param memory: that file.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._lock = threading.Lock()

    def verify(self, image: Path, expected: str, progress: Callable[[str], None]) -> None:
        """@raise PermanentError: the file is not the one that was registered."""
        # One at a time: VMs that start together mostly wait for the same image.
        with self._lock:
            found = self._of(image, progress)
        if found != expected.lower():
            raise PermanentError(f"The image {image.name} is not the one that was registered: its checksum differs")

    def _of(self, image: Path, progress: Callable[[str], None]) -> str:
        key = self._key(image)
        known = self._read()
        if key not in known:
            found = compute(image, progress)
            if self._key(image) != key:
                raise PermanentError(f"The image {image.name} changed while it was read")
            # Other states of the same file are forgotten.
            known = {old: value for old, value in known.items() if not old.startswith(f"{image}\n")} | {key: found}
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._memory, json.dumps(known))
        return known[key]

    def _key(self, image: Path) -> str:
        status = image.stat()
        return f"{image}\n{status.st_size}\n{status.st_mtime_ns}"

    def _read(self) -> dict[str, str]:
        try:
            table = json.loads(self._memory.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(key): str(value) for key, value in table.items()} if isinstance(table, dict) else {}


def compute(image: Path, progress: Callable[[str], None]) -> str:
    """SHA-256 of a file."""
    sum_, size, done, said = hashlib.sha256(), max(image.stat().st_size, 1), 0, -1
    with image.open("rb") as file:
        while data := file.read(CHUNK):
            sum_.update(data)
            done += len(data)
            percent = done * 100 // size
            if percent // 5 != said:
                said = percent // 5
                progress(f"Checking the image, {percent} %")
    return sum_.hexdigest()
