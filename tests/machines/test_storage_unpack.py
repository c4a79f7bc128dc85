"""Good images, unpacked for real."""

from __future__ import annotations

import pytest

from tests.conftest import require
from tests.fakes.asynchronous import asynchronous
from tests.machines.storage import COMPRESSIONS, ROOT, Storage, archive, content, marker, spec

pytestmark = [pytest.mark.private, pytest.mark.lxc]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@asynchronous
async def test_each_compression(storage: Storage, compression: str) -> None:
    if compression == "zstd":
        require("zstd")
    checksum = storage.put("desk", COMPRESSIONS[compression](archive(*ROOT)))
    roots, said = storage.roots(), list[str]()
    await roots.prepare(spec("desk", checksum=checksum), said.append)
    assert storage.bases() == [f"desk@{checksum[:16]}"]
    assert said[0] == "Checking the image"
    assert said[-1] == "Unpacking the image, 100 %"
    plan = await roots.lay_out(spec("desk", checksum=checksum))
    assert content(plan.lower, "sbin/init") == b"#!init"
    remembered = marker(plan.lower)
    assert (remembered["image"], remembered["sha256"], remembered["files"]) == ("desk", checksum, 2)
