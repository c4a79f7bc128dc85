"""Who belongs to a session."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.agent.family import Process, family, parse_stat, process_table, signal_all, still_there


def process(pid: int, parent: int, session: int) -> Process:
    return Process(pid, False, parent, session, started=pid)


def pids(leader: int, *processes: Process) -> set[int]:
    return {member.pid for member in family({one.pid: one for one in processes}, leader)}


def test_members_and_descendants_belong_to_it() -> None:
    table = (
        process(1, 0, 1),
        process(10, 1, 10),  # the leader
        process(11, 10, 10),  # its child
        process(12, 11, 12),  # a terminal's shell, with a process session of its own
        process(13, 12, 12),
        process(14, 1, 10),  # its parent has gone
        process(20, 1, 20),  # another session
        process(21, 20, 20),
    )
    assert pids(10, *table) == {10, 11, 12, 13, 14}


def test_without_a_leader_its_members_are_still_found() -> None:
    assert pids(10, process(1, 0, 1), process(14, 1, 10), process(15, 14, 15)) == {14, 15}


def test_nobody() -> None:
    assert pids(10, process(1, 0, 1), process(20, 1, 20)) == set()


def test_a_circle_ends() -> None:
    # The table is not read at one instant.
    assert pids(10, process(10, 11, 10), process(11, 10, 11)) == {10, 11}


def stat_line(name: str) -> bytes:
    rest = "S 10 4 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0"
    return b"42 (" + name.encode() + b") " + rest.encode()


@given(st.text(st.characters(codec="utf-8"), max_size=15))
def test_a_program_may_have_any_name(name: str) -> None:
    assert parse_stat(stat_line(name)) == Process(42, False, 10, 3, 777)


def test_a_zombie_is_dead() -> None:
    assert parse_stat(stat_line("x").replace(b") S", b") Z")).dead


def test_the_real_table_has_us() -> None:
    own = process_table()[os.getpid()]
    assert (own.parent, own.session, own.dead) == (os.getppid(), os.getsid(0), False)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    for name, text in {"7": b"nonsense", "8": stat_line("x").replace(b"42", b"8")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stat").write_bytes(text)
    (tmp_path / "9").mkdir()
    (tmp_path / "self").mkdir()
    assert set(process_table(tmp_path)) == {8}


def test_a_signal_goes_to_what_is_still_the_same() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    found = process_table()[child.pid]
    successor = Process(found.pid, False, found.parent, found.session, found.started + 1)
    try:
        assert signal_all([successor], signal.SIGKILL) == []
        assert child.poll() is None
        assert signal_all([found], signal.SIGTERM) == [found]
        assert child.wait(30) == -signal.SIGTERM
        assert still_there([found]) == []
    finally:
        child.kill()
        child.wait(30)


@pytest.mark.parametrize("pid", [1, os.getpid()], ids=["process one", "ourselves"])
def test_never_to_ourselves_nor_to_process_one(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    assert signal_all([process_table()[pid]], signal.SIGTERM) == []
    assert sent == []
