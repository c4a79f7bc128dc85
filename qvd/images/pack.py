# -*- test-case-name: tests.images.test_build -*-
"""Packs a tree of files: into an archive for containers, or onto a disk from which a virtual machine boots."""

from __future__ import annotations

import shlex
import struct
from pathlib import Path

from qvd.images.commands import BuildError, Commands
from qvd.images.recipe import ROOT_LABEL
from qvd.images.tarlisting import compressor

SECTOR = 512
FIRST = 2048
"""Sector where the only partition begins; the boot loader has the ones before it."""
CODE = 440
"""Bytes of the first sector that are the boot loader's."""
LINUX, ACTIVE = 0x83, 0x80
LEAST_ROOM = 256 << 20
# Each release of e2fsprogs has defaults of its own, and boot loaders know fewer features.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)


def pack_tar(tree: Path, out: Path, commands: Commands) -> None:
    """An archive, compressed as its name says, without device nodes."""
    archive = ["tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sort=name"]
    words = [*archive, "--exclude=./dev/*", "--exclude=./run/*", "--exclude=./tmp/*", "-C", str(tree), "."]
    compress = compressor(out.name)
    # A pipe of a shell, so that both may fail and be heard.
    pipe = f"{shlex.join(words)} | {shlex.join(compress)} >{shlex.quote(str(out))}" if compress else ""
    if pipe:
        commands.run("bash", "-o", "pipefail", "-c", pipe)
    else:
        commands.run(words[0], f"--file={out}", *words[1:])


def pack_disk(tree: Path, out: Path, folder: Path, size: int, commands: Commands) -> None:
    """A qcow2 disk: a boot loader, and one partition with all files.

    @param folder: has room for a sparse file of C{size} bytes.
    @raise BuildError: the files do not fit.
    """
    raw = folder / "disk"
    boot, core = (read_boot(tree, name) for name in ("boot.img", "core.img"))
    used = int(commands.run("du", "--summarize", "--block-size=1", "--one-file-system", str(tree)).split()[0])
    if used + LEAST_ROOM > size:
        raise BuildError(f"The system has {used >> 20} MiB: a disk of {size >> 20} MiB is too small (--disk)")
    commands.run("find", str(tree / "dev"), str(tree / "run"), "-mindepth", "1", "-delete")
    with raw.open("wb") as file:
        file.truncate(size)
        file.write(first_sector(boot, size // SECTOR))
        file.write(core)
    offset = FIRST * SECTOR
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-L", ROOT_LABEL, "-d", str(tree)]
    commands.run(*words, "-E", f"offset={offset}", str(raw), f"{(size - offset) >> 10}k")
    commands.run("qemu-img", "convert", "-O", "qcow2", str(raw), str(out))


def read_boot(tree: Path, name: str) -> bytes:
    """A part of the boot loader.

    @raise BuildError: it is larger than the place for it.
    """
    data = (tree / "boot/grub" / name).read_bytes()
    if len(data) > (FIRST - 1) * SECTOR:
        raise BuildError(f"The boot loader's part {name} has {len(data)} bytes: too many")
    return data


def first_sector(boot: bytes, sectors: int) -> bytes:
    """The boot loader's code, and a table with one partition up to the end of the disk."""
    entry = struct.pack("<B3sB3sII", ACTIVE, b"\0\2\0", LINUX, b"\xff\xff\xff", FIRST, sectors - FIRST)
    return boot[:CODE].ljust(CODE + 6, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"
