# -*- test-case-name: tests.doctor.test_running -*-
"""Runs small programs that ask the system something: each with a deadline, none with anything to read."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from attrs import frozen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 8.0


@frozen
class Said:
    """@ivar status: of its exit; L{None}: it is not installed, or did not end in time."""

    status: int | None
    out: str
    errors: str

    @property
    def good(self) -> bool:
        return self.status == 0

    @property
    def reason(self) -> str:
        """Its first words of complaint, or what became of it."""
        lines = [line.strip() for line in (self.errors or self.out).splitlines() if line.strip()]
        return lines[0][:300] if lines else f"exit status {self.status}"


def find(name: str) -> str | None:
    """Where the daemons would find it."""
    return shutil.which(name, path=PATH)


def run(words: Sequence[str], given: str = "", seconds: float = SECONDS) -> Said:
    """Run one to its end, or to its deadline."""
    program = find(words[0])
    if program is None:
        return Said(None, "", f"the program {words[0]} is not installed")
    environment: Mapping[str, str] = {"PATH": PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [program, *words[1:]],
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Said(None, "", f"{words[0]} did not end within {seconds:g} s")
    except OSError as error:
        return Said(None, "", f"{words[0]}: {error.strerror}")
    return Said(done.returncode, done.stdout, done.stderr)
