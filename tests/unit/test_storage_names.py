"""Names of bases, and of what is to become one."""

from __future__ import annotations

import os

import pytest

from qvd.hkd.storage.names import base_name, base_of, lock_name, new_name

SUM = "0123456789abcdef" * 4


def status(size: int, changed: int) -> os.stat_result:
    """Of a file."""
    return os.stat_result((0,) * 6 + (size, 0, 0, 0), {"st_mtime_ns": changed})


def name(image: str = "desk.tar", checksum: str | None = None, size: int = 16, changed: int = 255) -> str:
    return base_name(image, checksum, status(size, changed), subvolume=False)


def test_by_checksum() -> None:
    assert name(checksum=SUM) == name(checksum=SUM.upper(), size=1, changed=1) == "desk.tar@0123456789abcdef"


def test_by_size_and_time() -> None:
    assert name() == "desk.tar@10-ff"
    assert len({name(), name(size=17), name(changed=256), name("other")}) == 4


def test_back_ends_have_their_own() -> None:
    assert base_name("desk", SUM, None, subvolume=True) != base_name("desk", SUM, None, subvolume=False)


@pytest.mark.parametrize("image", ["a" * 255, "ä" * 127, "...", ".hidden", ".a.lock"])
def test_any_image_has_one(image: str) -> None:
    base = name(image, SUM)
    assert not base.startswith(".")
    assert max(len(os.fsencode(text)) for text in (new_name(base), lock_name(base))) <= 255


def test_leftovers() -> None:
    assert base_of(new_name("desk.tar@10-ff")) == "desk.tar@10-ff"
    assert base_of("desk.tar@10-ff") is base_of(lock_name("desk.tar@10-ff")) is base_of(".x.new") is None
