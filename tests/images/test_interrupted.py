"""What is left of a build that does not come to its end: nothing. What is in mmdebstrap's place waits, or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require

pytestmark = [pytest.mark.private, pytest.mark.images]

MOUNTING = """\
for tree in "$@"; do case "$tree" in */root) break ;; esac; done
mkdir -p "$tree/proc"
mount -t tmpfs here "$tree/proc"
sleep 1000 &
echo ready
wait
"""
DEADLINE = 20.0
FAILING = "echo E: no space left >&2; exit 1"


@contextmanager
def builder(folder: Path, program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """C{qvd-image build} with that shell script as mmdebstrap; its own files go to C{folder/tmp}."""
    require("setpriv", "unshare")
    stand_in = folder / "bin/mmdebstrap"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\n{program}")
    stand_in.chmod(0o755)
    (folder / "tmp").mkdir()
    command = [sys.executable, "-c", "import sys; from qvd.images.cli import main; sys.exit(main())", "build"]
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen(
        [*command, "--type", "lxc", "-o", str(folder / "out.tar"), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (*(folder / "tmp").iterdir(), *folder.glob("out*"), *folder.glob(".*")))


def sleepers() -> list[str]:
    """Process ids of the stand-in's child. A dead one, for which nobody has waited yet, has no command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", b"1000"]:
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    with builder(tmp_path, MOUNTING, "--verbose") as process:
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in range(2)][1] == "ready\n"
        process.send_signal(number)
        assert process.wait() == 130
    assert left(tmp_path) == []
    assert sleepers() == []
    assert Path("/proc/self/mounts").read_text() == mounts


def test_the_death_of_the_builder_ends_what_it_started(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    with builder(tmp_path, MOUNTING, "--verbose") as process:
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in range(2)][1] == "ready\n"
        wait_until(lambda: len(sleepers()) == 1)
        process.kill()
    # Nobody can wait for them: the kernel tells one after the other.
    wait_until(lambda: not sleepers())
    assert Path("/proc/self/mounts").read_text() == mounts


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_failure(tmp_path: Path) -> None:
    with builder(tmp_path, FAILING) as process:
        _, said = process.communicate()
        assert process.returncode == 1
    assert said.splitlines()[-2:] == [
        "qvd-image: mmdebstrap failed (exit status 1); it said last:",
        "E: no space left",
    ]
    assert left(tmp_path) == []
