"""The shell: lines from a pipe, completion, and what one command leaves for the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from twisted.internet.threads import deferToThread

from qvd.cli.program import program
from qvd.cli.shell import Commands, completions, history
from tests.admin.desks import Desks
from tests.cli.described import offline
from tests.cli.terminal import Run, Terminal
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_lines_from_a_pipe(anna: Terminal, desks: Desks) -> None:
    lines = "vm list -o json --fields name\n# nothing\n\nqvd vm list --no-header --fields name\nexit\nvm list\n"
    found = await anna.start("shell", stdin=lines)
    assert found.status == 0, found.err
    assert found.out.endswith("]\nalice-1\n"), "the form of a result is for one command"


@asynchronous
async def test_after_an_error(anna: Terminal, desks: Desks) -> None:
    lines = "vm show nobody\nvm list -q\nvm 'list\n"
    stopped = await anna.start("shell", stdin=lines)
    assert (stopped.status, stopped.out) == (5, "")
    on = await anna.start("shell", "--keep-going", stdin=lines)
    assert (on.status, on.out) == (2, f"{desks.vm}\n")
    assert "No closing quotation" in on.err or "cannot be understood" in on.err
    assert (await anna.start("shell", stdin="shell\n")).status == 2


@asynchronous
async def test_another_profile_for_one_line(anna: Terminal, boss: Terminal, desks: Desks) -> None:
    mine, theirs = anna.options.config.read_text(), boss.options.config.read_text()
    anna.options.config.write_text(mine + theirs.replace("[profiles.default]", "[profiles.all]"))
    lines = "vm list -q\n--profile all vm list -q\nvm list -q\nprofiles --use all\nvm list -q\n"
    found = await anna.start("shell", stdin=lines)
    assert found.status == 0, found.err
    numbers = found.out.replace(" ", "").split("name")[0].split()
    one, two = str(desks.vm), str(desks.their_vm)
    assert numbers == [one, one, two, one]
    assert found.out.splitlines()[-2:] == [one, two]


def words(text: str) -> list[str]:
    return [each.text for each in Commands(offline(), program).get_completions(Document(text), CompleteEvent())]


def test_completion() -> None:
    assert {"vm", "user", "login"} <= set(words(""))
    assert words("vm sta") == ["start"]
    assert "--filter" in words("vm list --f")
    assert words("vm list -o j") == ["json"]
    assert words("tenant set x --language e") == ["en", "es"]
    assert words("vm 'x") == []
    assert [each.value for each in completions(program, offline(), ["vm"], "exp")] == ["expiration", "explain"]


def test_history_is_private(tmp_path: Path) -> None:
    history().store_string("vm list")
    place = tmp_path / "state/qvd/history"
    assert place.stat().st_mode & 0o777 == 0o600
    assert "vm list" in place.read_text()


def program_run(tmp_path: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the console script does it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")}
    command = [sys.executable, "-c", "from qvd.cli.main import main; main()", *args]
    return subprocess.run(
        command, env=kept | environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_shells(tmp_path: Path, shell: str) -> None:
    script = program_run(tmp_path, "completion", shell)
    assert script.returncode == 0, script.stderr
    assert "_QVD_COMPLETE" in script.stdout
    asked = {"_QVD_COMPLETE": f"{shell}_complete", "COMP_WORDS": "qvd log", "COMP_CWORD": "log"}
    asked["COMP_CWORD"] = "1" if shell != "fish" else "log"
    found = program_run(tmp_path, **asked)
    assert "login" in found.stdout and "logout" in found.stdout, found.stderr


def test_the_program(tmp_path: Path) -> None:
    assert program_run(tmp_path, "--version").stdout.startswith("qvd, version ")
    bare = program_run(tmp_path)
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "Usage: qvd" in bare.stderr
    assert program_run(tmp_path, "vm", "list", QVD_URL="https://localhost:1").returncode == 9
    assert program_run(tmp_path, "vm", "list", QVD_TIMEOUT="x").returncode == 2
    assert program_run(tmp_path, "vm", "list", QVD_OUTPUT="x").returncode == 2


@asynchronous
async def test_typed_lines(anna: Terminal, desks: Desks) -> None:
    """At a terminal: lines, an error, and the end."""
    anna.interactive = True

    def type_them() -> Run:
        with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
            keys.send_text("vm list -q\n")
            keys.send_text("vm show alice-1 -q\n")
            keys.send_text("vm show nobody\n")
            keys.send_text("quit\n")
            return anna.run("shell")

    found = await deferToThread(type_them)
    assert found.status == 0, found.err
    assert found.out == f"{desks.vm}\n{desks.vm}\n"
    assert "There is no vm 'nobody'" in found.err
