"""Streams with an end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest

from qvd.hkd.storage.streams import Bounded, Refused, decompressed
from qvd.model.imagetype import ImageType


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ImageType.TAR, b"abc"),
        (ImageType.GZIP, gzip.compress(b"ab") + gzip.compress(b"c")),
        (ImageType.BZIP2, bz2.compress(b"abc")),
        (ImageType.XZ, lzma.compress(b"abc")),
        (ImageType.ZSTD, b"abc"),
    ],
    ids=["tar", "gzip", "bzip2", "xz", "zstd"],
)
def test_what_comes_out(kind: ImageType, data: bytes) -> None:
    assert decompressed(kind, io.BytesIO(data)).read(10) == b"abc"


def test_bound() -> None:
    stream = Bounded(io.BytesIO(bytes(10)), 9)
    assert stream.read(9) == bytes(9)
    with pytest.raises(Refused, match="is too large"):
        stream.drain()
