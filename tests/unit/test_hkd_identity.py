"""The file with what only this machine knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.hkd import identity
from qvd.model.errors import SettingsError


def test_it_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "qvd" / "node.identity"
    assert identity.read(path) is None
    made = identity.make(path)
    assert identity.read(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made.reveal()) >= 32
    with pytest.raises(SettingsError, match="File exists"):
        identity.make(path)
    assert identity.read(path) == made
    assert identity.make(tmp_path / "other") != made


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_one_that_holds_nothing(tmp_path: Path, content: bytes) -> None:
    """Not the same as none: a node that is enrolled must not come as one that is not."""
    path = tmp_path / "node.identity"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="holds no identity"):
        identity.read(path)


def test_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        identity.read(tmp_path)
