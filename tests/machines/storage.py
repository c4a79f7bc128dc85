"""Archives, folders and settings for the tests of storage."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor as installed_reactor

from qvd.hkd.storage.layers import ILayers, OverlayLayers
from qvd.hkd.storage.layout import StorageLayout
from qvd.hkd.storage.names import MARKER
from qvd.hkd.storage.roots import Roots
from qvd.model.ids import DIId, TenantId, VMId
from qvd.model.records import Persistence, VMSpec
from qvd.model.secret import Secret

reactor: Any = installed_reactor
BASE = 1000000
LIMIT = 64 << 20
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", **fields: Any) -> Entry:
    """A member; C{type} and the rest as in a L{tarfile.TarInfo}."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    info.size = len(content)
    return info, content


def folder(name: str, **fields: Any) -> Entry:
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


ROOT: tuple[Entry, ...] = (folder("./sbin"), entry("./sbin/init", b"#!init", mode=0o755))
"""The least that is taken for a root file system."""


def archive(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


class Storage:
    """Folders of one installation, as one node or more see it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.layout = StorageLayout(
            images=top / "images",
            bases=top / "bases",
            overlays=top / "overlays",
            node="n1",
            uid_base=BASE,
            limit=LIMIT,
        )
        self.layout.images.mkdir(parents=True)
        self._roots: list[Roots] = []

    def put(self, name: str, content: bytes) -> str:
        """Put an image there. @return: its checksum."""
        (self.layout.images / name).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def roots(self, node: str = "n1", layers: ILayers | None = None) -> Roots:
        """@return: as that node has them."""
        roots = Roots(reactor, evolve(self.layout, node=node), layers or OverlayLayers(BASE))
        self._roots.append(roots)
        return roots

    def close(self) -> None:
        for roots in self._roots:
            roots.close()

    def bases(self) -> Sequence[str]:
        """Names of what has been unpacked."""
        return sorted(name for name in self._listed() if not name.startswith("."))

    def leftovers(self) -> Sequence[str]:
        return sorted(name for name in self._listed() if name.endswith(".new"))

    def _listed(self) -> Iterable[str]:
        return os.listdir(self.layout.bases) if self.layout.bases.exists() else ()


def content(*parts: str) -> bytes:
    """Of a file."""
    return Path(*parts).read_bytes()


def write(text: str, *parts: str) -> None:
    Path(*parts).write_text(text)


def exists(*parts: str) -> bool:
    return os.path.lexists(Path(*parts))


def silent(text: str) -> None:
    """Nobody asks how far it is."""


def marker(lower: str) -> dict[str, Any]:
    """What is remembered of an unpacked image."""
    said: dict[str, Any] = json.loads(Path(lower).with_name(MARKER).read_bytes())
    return said


def spec(image: str, vm_id: int = 1, checksum: str | None = None, **fields: Any) -> VMSpec:
    return VMSpec(
        vm_id=VMId(vm_id),
        tenant_id=TenantId(1),
        name="desk",
        login="alice",
        di_id=DIId(1),
        image=image,
        memory=1 << 28,
        home="1/alice",
        secret=Secret("s"),
        checksum=checksum,
        **{"persistence": Persistence.HOME, **fields},
    )


@contextmanager
def memory_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system in memory, of that size."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "disk", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
