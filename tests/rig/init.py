"""Process 1 of a private world: runs one program, reaps whoever is left to it, and ends with that program."""

from __future__ import annotations

import os
import sys


def main(words: list[str]) -> int:
    """@return: the program's exit status, as a shell would say it."""
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
