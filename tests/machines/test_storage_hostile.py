"""Archives that nobody should unpack: refused with a sentence, and nothing was written but in the folder of bases."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import evolve

from qvd.hkd.storage.untar import DEPTH
from qvd.model.errors import PermanentError
from tests.fakes.asynchronous import asynchronous
from tests.machines.storage import (
    COMPRESSIONS,
    LIMIT,
    ROOT,
    Entry,
    Storage,
    archive,
    entry,
    folder,
    silent,
    spec,
    zstd,
)
from tests.rig.world import PROJECT

pytestmark = [pytest.mark.private, pytest.mark.lxc]

NOISE = random.Random(1).randbytes(300_000)
BIG = archive(*ROOT, entry("noise", NOISE))
HOSTILE: dict[str, tuple[Sequence[Entry], str]] = {
    "absolute": ([entry("/etc/evil", b"x")], "'/etc/evil' in it leads out of it"),
    "dots": ([entry("../../evil", b"x")], r"'\.\./\.\./evil' in it leads out of it"),
    "dots inside": ([folder("a"), entry("a/../../evil", b"x")], "leads out of it"),
    "below a link": (
        [entry("out", type=tarfile.SYMTYPE, linkname="/tmp"), entry("out/evil", b"x")],
        "'out/evil' in it lies below 'out', which is a symbolic link or a file",
    ),
    "folder over a link": (
        [entry("out", type=tarfile.SYMTYPE, linkname="/tmp"), folder("out", mode=0o777)],
        "'out' in it lies below 'out', which is a symbolic link",
    ),
    "below a file": ([entry("out", b"x"), entry("out/evil", b"x")], "lies below 'out'"),
    "hard link out": ([entry("passwd", type=tarfile.LNKTYPE, linkname="../../../etc/passwd")], "leads out of it"),
    "hard link to root": ([entry("passwd", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "leads out of it"),
    "hard link through a link": (
        [
            entry("out", type=tarfile.SYMTYPE, linkname="/etc"),
            entry("passwd", type=tarfile.LNKTYPE, linkname="out/passwd"),
        ],
        "'passwd' in it lies below 'out'",
    ),
    "hard link to nothing": (
        [entry("a", type=tarfile.LNKTYPE, linkname="b")],
        "is a hard link to 'b', which is not in it",
    ),
    "hard link to a folder": (
        [folder("d"), entry("a", type=tarfile.LNKTYPE, linkname="d")],
        "is a hard link to a folder",
    ),
    "file over a folder": ([folder("d"), entry("d", b"x")], "takes the place of a folder"),
    "disk": ([entry("dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0)], "'dev/sda' in it is a device"),
    "memory": ([entry("dev/mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1)], "'dev/mem' in it is a device"),
    "null of another name": (
        [entry("dev/nil", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        "'dev/nil' in it is a device",
    ),
    "null elsewhere": (
        [entry("etc/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        "'etc/null' in it is a device",
    ),
    "disk named null": ([entry("dev/null", type=tarfile.BLKTYPE, devmajor=1, devminor=3)], "'dev/null' in it is a"),
    "owner": ([entry("a", uid=65536)], "belongs to the id 65536; those of a container are 0 to 65535"),
    "group": ([entry("a", gid=100000)], "belongs to the id 100000"),
    "odd kind": ([entry("a", type=b"V")], "'a' in it is of an unknown kind"),
    "deep": ([folder("d/" * (DEPTH + 1))], f"lies more than {DEPTH} folders deep"),
    "no root": ([folder("srv")], r"holds no root file system: there is none of sbin/init, usr/sbin/init"),
    "root is a file": ([entry("./", b"x")], "is no folder"),
}


def outside(storage: Storage) -> list[tuple[str, int, int, int]]:
    """What is on this machine where such archives want to write, and in the storage but for the bases."""
    found = [described(path) for path in Path("/tmp").iterdir() if not PROJECT.is_relative_to(path)]
    for top in ("/etc", "/srv", storage.top):
        for path, folders, files in os.walk(top):
            if Path(path) == storage.layout.bases:
                folders.clear()
                continue
            found += [described(Path(path, name)) for name in (*folders, *files) if name != "bases"]
    return sorted(found)


def described(path: Path) -> tuple[str, int, int, int]:
    status = path.lstat()
    return str(path), status.st_mode, status.st_uid, status.st_ctime_ns


async def refusal(storage: Storage, image: str = "desk", checksum: str | None = None) -> str:
    """Ask for it; it must be refused, and leave nothing anywhere."""
    storage.layout.bases.mkdir(exist_ok=True)
    before = outside(storage)
    with pytest.raises(PermanentError) as caught:
        await storage.roots().prepare(spec(image, checksum=checksum), silent)
    assert outside(storage) == before
    assert (storage.bases(), storage.leftovers()) == ([], [])
    return caught.value.text


@pytest.mark.parametrize("name", HOSTILE)
@asynchronous
async def test_refused(storage: Storage, name: str) -> None:
    entries, reason = HOSTILE[name]
    storage.put("desk", archive(*entries) if "root" in name else archive(*ROOT, *entries))
    sentence = await refusal(storage)
    assert sentence.startswith("The image desk ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(sentence)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kept", [0.3, 0.97, -1])
@asynchronous
async def test_truncated(storage: Storage, compression: str, kept: float) -> None:
    """Also where only the end of the compressed data is missing."""
    whole = COMPRESSIONS[compression](BIG)
    if compression == "plain":
        # The padding after an archive's end is nobody's loss.
        whole = whole.rstrip(b"\0") + bytes(1024)
        kept = 0.99 if kept == -1 else kept
    storage.put("desk", whole[:-1] if kept == -1 else whole[: int(len(whole) * kept)])
    assert "damaged" in await refusal(storage)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@asynchronous
async def test_corrupt(storage: Storage, compression: str) -> None:
    data = bytearray(COMPRESSIONS[compression](BIG))
    place = 512 + 20 if compression == "plain" else len(data) // 2
    for index in range(place, place + 16):
        data[index] ^= 0x55
    storage.put("desk", bytes(data))
    assert "damaged" in await refusal(storage)


@pytest.mark.parametrize("ending", [b"", bytes(512)])
@asynchronous
async def test_an_archive_must_have_its_end(storage: Storage, ending: bytes) -> None:
    """What was cut between two files looks whole to the careless."""
    cut = archive(*ROOT).rstrip(b"\0")
    cut += bytes(-len(cut) % 512) + ending
    storage.put("desk", cut)
    if ending:
        await storage.roots().prepare(spec("desk"), silent)
    else:
        assert "damaged or incomplete" in await refusal(storage)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
@asynchronous
async def test_endless_zeros(storage: Storage, compress: object) -> None:
    """Some kilobytes hold more than is allowed."""
    assert callable(compress)
    head = tarfile.TarInfo("zeros")
    head.size = LIMIT + 1
    storage.put("desk", compress(head.tobuf() + bytes(LIMIT + 1024)))
    assert f"is too large: more than {LIMIT >> 20} MiB when unpacked" in await refusal(storage)


@pytest.mark.parametrize("size", [str(1 << 50), "x", "-1"])
@asynchronous
async def test_a_sparse_giant(storage: Storage, size: str) -> None:
    """Its header says a size that it has not."""
    info = tarfile.TarInfo("giant")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0"}
    info.pax_headers["GNU.sparse.size"] = info.pax_headers["GNU.sparse.realsize"] = size
    storage.put("desk", archive(*ROOT, (info, b"")))
    sentence = await refusal(storage)
    assert "too large" in sentence or "damaged" in sentence or "less than no content" in sentence


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is an empty file"),
        (b"QFI\xfb" + bytes(1020), r"is a disk of a virtual machine (qcow2)"),
        (b"\x7fELF" + bytes(2000), "is a file of an unknown kind"),
        (bytes(510) + b"\x55\xaa" + bytes(512), "is a raw disk"),
    ],
)
@asynchronous
async def test_no_archive(storage: Storage, content: bytes, reason: str) -> None:
    storage.put("desk.tar.gz", content)
    sentence = await refusal(storage, "desk.tar.gz")
    assert sentence == f"The image desk.tar.gz {reason}; a container needs a tar archive, compressed or not"


@asynchronous
async def test_compressed_but_no_archive(storage: Storage) -> None:
    storage.put("desk", gzip.compress(b"hello" * 1000))
    assert await refusal(storage) == "The image desk holds no tar archive"


@asynchronous
async def test_other_things_in_the_place_of_a_file(storage: Storage) -> None:
    (storage.layout.images / "folder").mkdir()
    os.mkfifo(storage.layout.images / "pipe")
    (storage.layout.images / "link").symlink_to("/etc/passwd")
    assert "The image folder is a folder; a container needs a tar archive" in await refusal(storage, "folder")
    assert "The image pipe is a pipe or a device" in await refusal(storage, "pipe")
    assert "The image link is a symbolic link" in await refusal(storage, "link")
    assert await refusal(storage, "none") == "The image none does not exist on this node"


@asynchronous
async def test_wrong_checksum(storage: Storage) -> None:
    found, expected = storage.put("desk", archive(*ROOT)), "0" * 64
    sentence = await refusal(storage, checksum=expected)
    assert sentence.endswith(f"is not the file that was registered: its SHA-256 is {found}, expected is {expected}")


@asynchronous
async def test_wrong_checksum_and_damaged(storage: Storage) -> None:
    """The sum says more than the damage."""
    found = storage.put("desk", BIG[:5000])
    assert f"its SHA-256 is {found}" in await refusal(storage, checksum="0" * 64)


@asynchronous
async def test_limit_of_all_files_together(storage: Storage) -> None:
    storage.layout = evolve(storage.layout, limit=1 << 20)
    storage.put("desk", archive(*ROOT, *[entry(f"f{number}", bytes(300_000)) for number in range(4)]))
    assert "is too large: more than 1 MiB when unpacked" in await refusal(storage)
