"""The bytes of an Xauthority file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qvd.agent.xauthority import encode_entry

COOKIE = bytes(range(16))


def test_the_bytes() -> None:
    expected = b"\xff\xff\0\0\0\x03100\0\x12MIT-MAGIC-COOKIE-1\0\x10" + COOKIE
    assert encode_entry(100, COOKIE) == expected


def test_a_cookie_of_another_length_is_none() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        encode_entry(100, b"short")


@pytest.mark.skipif(shutil.which("xauth") is None, reason="missing: xauth")
def test_xauth_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "Xauthority"
    path.write_bytes(encode_entry(1234, COOKIE))
    listed = subprocess.run(["xauth", "-n", "-f", str(path), "list"], capture_output=True, text=True, timeout=30)
    assert "1234" in listed.stdout
    assert f"MIT-MAGIC-COOKIE-1  {COOKIE.hex()}" in listed.stdout
