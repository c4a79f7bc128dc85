"""What a daemon leaves for its successor."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.hkd.hypervisor.pidfd import ProcessId
from qvd.hkd.hypervisor.state import RunState, StateFolder, write_private
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret

NINE = VMId(9)
GUEST = Guest("127.0.0.1", 20001, 5001, Secret("s"))


def folder(tmp_path: Path) -> StateFolder:
    states = StateFolder(tmp_path)
    states.of(NINE).mkdir(parents=True)
    return states


def test_round_trip(tmp_path: Path) -> None:
    states = folder(tmp_path)
    fresh = RunState(NINE, "boot", GUEST, 1001, "alice")
    states.write(fresh)
    assert states.read(NINE) == fresh
    known = RunState(NINE, "boot", GUEST, 1001, "alice", ProcessId(4, 5), ProcessId(6, 7))
    states.write(known)
    (states.of(NINE) / "init.json").write_text('{"pid": 6, "started": 7}')
    assert states.read(NINE) == known
    assert states.ids() == {NINE}


def test_private(tmp_path: Path) -> None:
    states = folder(tmp_path)
    states.write(RunState(NINE, "boot", GUEST, 1001, "alice"))
    path = states.of(NINE) / "state.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in states.of(NINE).iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", '{"boot"', "{}", "[]", '{"boot": "b", "address": 5, "vma_port": "x"}'])
def test_not_understood(tmp_path: Path, text: str) -> None:
    states = folder(tmp_path)
    (states.of(NINE) / "state.json").write_text(text)
    assert states.read(NINE) is None
    assert states.ids() == {NINE}


def test_nothing_there(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "absent")
    assert states.read(NINE) is None
    assert states.ids() == set()


def test_only_numbers_are_ours(tmp_path: Path) -> None:
    states = folder(tmp_path)
    for name in ("notes", "-1", "1.5", "\u0663"):
        (states.path / name).mkdir()
    assert states.ids() == {NINE}


def test_private_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    (tmp_path / "file.new").symlink_to(target)
    (tmp_path / "file").symlink_to(target)
    write_private(tmp_path / "file", "new", 0o644)
    assert target.read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
