# -*- test-case-name: tests.machines.test_storage_unpack -*-
"""
The way of an archive's bytes: out of the file, into the sum, through a confined process or two, into a folder. Standard
library only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qvd.hkd.storage.confinement import confine, pivot_into, pivot_into_programs
from qvd.hkd.storage.streams import Bounded, Refused, decompressed
from qvd.hkd.storage.untar import unpack, write_all
from qvd.model.imagetype import ImageType

COPY = 1 << 18
ANSWER = 1 << 14
"""Bytes of what the confined process says at its end."""
OVERHEAD = 4 << 30
"""Bytes of headers and padding, on top of what the files may have: 1.5 KiB for each of two million."""
ZSTD = "/usr/bin/zstd"
UNZSTD = ("-d", "-c", "-q", "-M128MiB")
THREADS = 64
"""zstd has some for reading and writing."""
STORAGE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EREMOTEIO,
        errno.ENFILE,
        errno.ENOMEM,
    }
)
"""Errors that are not the archive's."""


class Source:
    """The archive's file, read once.

    @param percent: told how much of it has been read, when that has changed.
    """

    def __init__(self, fd: int, percent: Callable[[int], None]) -> None:
        self._fd = fd
        self._percent = percent
        self._size = os.fstat(fd).st_size
        self._digest = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        done, told = 0, -1
        while chunk := os.read(self._fd, COPY):
            self._digest.update(chunk)
            done += len(chunk)
            yield chunk
            percent = min(done * 100 // max(self._size, 1), 100)
            if percent != told:
                told = percent
                self._percent(percent)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Unpacking:
    """One archive on its way into one folder.

    @param uid_base: the first of the ids that own what is unpacked.
    @param limit: bytes of all files together.
    @param signs: at least one of these paths must be there then.
    """

    def __init__(self, root: Path, kind: ImageType, uid_base: int, limit: int, signs: Sequence[str]) -> None:
        self._root = str(root)
        self._kind = kind
        self._uid_base = uid_base
        self._limit = limit
        self._signs = signs
        self._children: list[int] = []

    def run(self, source: Source) -> dict[str, int]:
        """@raise Refused: it is not to be used. All of the file has been read by then.
        @raise OSError: the storage, or this machine, is in trouble.
        """
        reading, writing = os.pipe()
        if self._kind is ImageType.ZSTD:
            reading = self._unzstd(reading)
        answer = self._untar(reading)
        pump(source, writing)
        with open(answer, "rb") as file:
            line = file.read(ANSWER)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self._children]
        return verdict(line, codes)

    def _unzstd(self, reading: int) -> int:
        """@return: where the archive is to be read now."""
        if not os.access(ZSTD, os.X_OK):
            raise Refused("is compressed by zstd, and this node has no program zstd to unpack it")
        plain, out = os.pipe()

        def work() -> None:
            os.dup2(reading, 0)
            os.dup2(out, 1)
            os.execv(ZSTD, ["zstd", *UNZSTD])

        self._start(pivot_into_programs, work, reading, out, file_size=0, processes=THREADS)
        return plain

    def _untar(self, reading: int) -> int:
        """@return: where the answer is to be read."""
        answer, out = os.pipe()

        def work() -> None:
            write_all(out, json.dumps(untar(reading, self._kind, self._limit, self._signs)).encode())

        self._start(partial(pivot_into, self._root), work, reading, out, file_size=self._limit, processes=1)
        return answer

    def _start(
        self,
        enter: Callable[[], None],
        work: Callable[[], None],
        reading: int,
        out: int,
        *,
        file_size: int,
        processes: int,
    ) -> None:
        """The process gets both ends, and has them alone."""
        self._children.append(confine(enter, work, (reading, out), self._uid_base, file_size, processes))
        os.close(reading)
        os.close(out)


def pump(source: Source, out: int) -> None:
    """Feed all of it; where nobody wants it any more, read it all the same, for the sum."""
    wanted = True
    for chunk in source.chunks():
        try:
            if wanted:
                write_all(out, chunk)
        except BrokenPipeError:
            wanted = False
    os.close(out)


def verdict(line: bytes, codes: Sequence[int]) -> dict[str, int]:
    """What has become of it.

    @param codes: exit codes, the unpacker's last.
    """
    *decompressor, unpacker = codes
    if unpacker != 0 or not line:
        raise OSError(errno.ECHILD, f"the process that unpacks it ended too early ({unpacker})")
    said: dict[str, Any] = json.loads(line)
    if "errno" in said:
        raise OSError(said["errno"], said["error"])
    if "refused" in said:
        raise Refused(said["refused"])
    if any(decompressor):
        raise Refused("is damaged or incomplete: zstd cannot read it to its end")
    return said


def untar(reading: int, kind: ImageType, limit: int, signs: Sequence[str]) -> dict[str, object]:
    """In the confined process, whose root is the folder. It says what went wrong, whatever it is."""
    try:
        return unpacked(reading, kind, limit, signs)
    except Refused as refused:
        return {"refused": str(refused)}
    except MemoryError:
        return {"refused": "needs too much memory to be unpacked"}
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        return {"refused": f"is damaged or incomplete: {error}"}
    except OSError as error:
        if error.errno in STORAGE:
            return {"errno": error.errno, "error": error.strerror}
        # Those that decompress raise it too, without a number.
        return {"refused": f"is damaged or cannot be unpacked: {error.strerror or error}"}
    except Exception as error:  # noqa: BLE001  a header that was made for it may upset tarfile in any way
        return {"refused": f"is damaged or incomplete: {type(error).__name__}: {error}"}


def unpacked(reading: int, kind: ImageType, limit: int, signs: Sequence[str]) -> dict[str, object]:
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with open(reading, "rb", buffering=COPY) as stream:
        archive = Bounded(decompressed(kind, stream), limit + OVERHEAD)
        members, total = unpack(archive, root, limit)
        archive.drain()
        while stream.read(COPY):
            pass
    if not any(os.path.lexists(f"/{sign}") for sign in signs):
        raise Refused(f"holds no root file system: there is none of {', '.join(signs)} in it")
    return {"files": members, "bytes": total}
