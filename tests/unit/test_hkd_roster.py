"""Who is alive, by the locks of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qvd.hkd.roster import FOLDER, Roster
from qvd.model.errors import TransientError

HOLDER = """
import sys
from pathlib import Path
from qvd.hkd.roster import Roster
Roster(Path(sys.argv[1]), "other").enter()
print("in", flush=True)
sys.stdin.read()
"""


def test_one_is_alive_from_its_entry_to_its_end(tmp_path: Path) -> None:
    one, two = Roster(tmp_path / "run", "one"), Roster(tmp_path / "run", "two")
    one.enter()
    assert one.living() == ["one"]
    two.enter()
    assert sorted(one.living()) == sorted(two.living()) == ["one", "two"]
    assert int((tmp_path / "run" / FOLDER / "two").read_text()) == os.getpid()
    two.leave()
    assert one.living() == ["one"]
    one.leave()
    one.leave()
    assert list((tmp_path / "run" / FOLDER).iterdir()) == []


def test_one_that_is_killed_says_so_without_a_word(tmp_path: Path) -> None:
    roster = Roster(tmp_path, "one")
    roster.enter()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == b"in\n"
        assert sorted(roster.living()) == ["one", "other"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
    assert roster.living() == ["one"]
    assert not (tmp_path / FOLDER / "other").exists()
    roster.leave()


def test_a_file_that_was_taken_for_a_dead_ones_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks between the making of the file and its lock."""
    import fcntl

    flock, looks = fcntl.flock, [1]

    def late(descriptor: int, operation: int) -> None:
        if looks:
            looks.pop()
            (tmp_path / FOLDER / "one").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    roster = Roster(tmp_path, "one")
    roster.enter()
    assert roster.living() == ["one"]
    roster.leave()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")
    with pytest.raises(TransientError, match="cannot be written"):
        Roster(tmp_path, "one").enter()
    with pytest.raises(TransientError, match="cannot be read"):
        Roster(tmp_path, "one").living()
