# -*- test-case-name: tests.unit.test_images_commands -*-
"""Runs other programs, so that one that fails is a sentence, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from attrs import field, frozen

from qvd.model.errors import QVDError

LAST_LINES = 12
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PRIVATE = (
    "setpriv --pdeathsig KILL unshare --mount --pid --mount-proc --fork --kill-child --propagation private".split()
)
"""Before a program: what it mounts nobody else sees, and all that it starts ends with it, or with us."""


class BuildError(QVDError):
    """An image could not be made or looked at."""

    code = "image"


class Interrupted(BaseException):
    """Somebody wants this process to end: what was begun is undone on the way out."""


@frozen
class Commands:
    """Runs programs one after the other.

    @ivar echo: gets each line that they print; L{None}: nobody, unless one fails.
    """

    echo: IO[str] | None = None
    environment: Mapping[str, str] = field(factory=lambda: dict(os.environ))

    def run(self, *words: str, private: bool = False) -> str:
        """Run one to its end.

        @param private: in namespaces of its own.
        @return: the last lines that it printed.
        @raise BuildError: it is not installed, or it failed; with what it said last.
        """
        with started([*(PRIVATE if private else ()), *words], self.environment) as process:
            last: deque[str] = deque(maxlen=LAST_LINES)
            assert process.stdout is not None
            for line in process.stdout:
                last.append(line.rstrip())
                if self.echo is not None:
                    self.echo.write(line)
            process.wait()
        said = "\n".join(last)
        if process.returncode != 0:
            raise BuildError(f"{words[0]} failed ({how(process.returncode)}); it said last:\n{said}")
        return said


@contextmanager
def started(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A program whose two outputs are one. It is killed, and gone, when the block is left early."""
    try:
        # In a process session of its own, so that an interruption from the keyboard reaches only us.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise BuildError(f"The program {words[0]} is missing: install it") from None
    with process:
        try:
            yield process
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            if process.stdout is not None:
                # The end of its output is the end of all that it had started.
                while process.stdout.read(65536):
                    pass
            raise


def how(status: int) -> str:
    """An exit status in words."""
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


@contextmanager
def heeding_signals() -> Iterator[None]:
    """In the block a signal that asks for our end is L{Interrupted}, raised wherever we are. The first one only: what
    it undoes is not to be interrupted again."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    before = {each: signal.signal(each, interrupt) for each in SIGNALS}
    try:
        yield
    finally:
        for each, disposition in before.items():
            signal.signal(each, disposition)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
