"""Other programs: how they fail, and that none is left."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from qvd.images.commands import LAST_LINES, BuildError, Commands, Interrupted, heeding_signals
from tests.integration.farm import eventually


def test_what_it_said_last_is_returned() -> None:
    assert Commands().run("sh", "-c", "echo one; echo two >&2") == "one\ntwo"


def test_a_failure_is_told_with_the_last_lines() -> None:
    with pytest.raises(BuildError) as caught:
        Commands().run("sh", "-c", "seq 100; echo no space left; exit 3")
    lines = caught.value.text.splitlines()
    assert lines[0] == "sh failed (exit status 3); it said last:"
    assert lines[-1] == "no space left"
    assert len(lines) == 1 + LAST_LINES


def test_a_signal_has_a_name() -> None:
    with pytest.raises(BuildError, match="signal SIGTERM"):
        Commands().run("sh", "-c", "kill -TERM $$")


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(BuildError, match="The program no-such-program is missing: install it"):
        Commands().run("no-such-program")


def test_all_lines_are_shown_to_whoever_wants_them() -> None:
    shown = io.StringIO()
    Commands(shown).run("seq", "100")
    assert len(shown.getvalue().splitlines()) == 100


def is_alive(pid: int) -> bool:
    """It may have ended and not been waited for by whoever got it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_interruption_ends_the_program_and_its_children() -> None:
    class Impatient(io.StringIO):
        def write(self, text: str) -> int:
            self.pid = int(text)
            os.kill(os.getpid(), signal.SIGTERM)
            return len(text)

    shown = Impatient()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), heeding_signals():
        Commands(shown).run("sh", "-c", "sleep 1000 & echo $!; wait")
    eventually(lambda: not is_alive(shown.pid), "the end of the program's child")
    assert signal.getsignal(signal.SIGTERM) == before
