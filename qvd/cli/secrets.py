# -*- test-case-name: tests.cli.test_session -*-
"""Secrets, which come from a file, from standard input, or from somebody who types them unseen: never in arguments."""

from __future__ import annotations

import getpass
import os
import stat
from pathlib import Path
from typing import TextIO

from qvd.cli.exits import usage

LONGEST = 64 * 1024


def read_secret(place: str, stdin: TextIO) -> str:
    """The first line of a file; C{-} is standard input.

    @raise CommandError: there is none.
    """
    try:
        text = stdin.readline(LONGEST) if place == "-" else first_line(Path(place))
    except OSError as error:
        raise usage(f"{place} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise usage(f"{place} is no text") from None
    secret = text.rstrip("\r\n")
    if not secret:
        raise usage(f"There is nothing in the first line of {'standard input' if place == '-' else place}")
    return secret


def first_line(path: Path) -> str:
    """@raise CommandError: everybody can read it."""
    with path.open(encoding="utf-8") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o007:
            raise usage(f"{path} holds a secret, and everybody can read it: chmod 600 {path}")
        return file.readline(LONGEST)


def ask_secret(prompt: str) -> str:
    """Typed unseen.

    @raise CommandError: nothing was.
    """
    try:
        typed = getpass.getpass(prompt)
    except EOFError:
        typed = ""
    if not typed:
        raise usage("Nothing was typed")
    return typed
