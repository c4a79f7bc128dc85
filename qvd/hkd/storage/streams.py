# -*- test-case-name: tests.unit.test_storage_streams -*-
"""The bytes of an archive, whatever compressed it, and no more of them than is allowed. Standard library only."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import IO, cast

from qvd.model.imagetype import ImageType


class Refused(Exception):
    """The archive is none that will be unpacked; the text is the rest of a sentence that names the image."""


class Bounded:
    """A stream that ends in an error where it gets too long: a small file can hold endless zeros.

    @param limit: bytes.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        if self.count > self._limit:
            raise Refused(f"is too large: more than {self._limit >> 20} MiB when unpacked")
        return data

    def drain(self) -> None:
        """Read on to the end: only there is it known that the compressed data is whole."""
        while self.read(1 << 20):
            pass


def decompressed(kind: ImageType, stream: IO[bytes]) -> IO[bytes]:
    """@param kind: of the data in C{stream}; what zstd made comes here from its own program, as a plain archive."""
    match kind:
        case ImageType.GZIP:
            return cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="rb"))
        case ImageType.BZIP2:
            return cast(IO[bytes], bz2.BZ2File(stream))
        case ImageType.XZ:
            return cast(IO[bytes], lzma.LZMAFile(stream))
        case _:
            return stream
