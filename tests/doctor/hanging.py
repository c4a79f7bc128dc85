"""
A file server that hangs: C{hanging.py POINT PIDFILE COMMAND...} mounts one and becomes the command.

It is a FUSE file system whose server answers the greeting, takes every request, and says no more. Whoever has asked
it something waits, and not even SIGKILL ends that: as with a real one. It is for a mount namespace of its own.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

INIT = 26
REQUEST, ANSWER = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
GREETING = struct.Struct("=IIIIHHIIHHI28x")
LARGEST = 1 << 17


def serve(fuse: int) -> None:
    """Answer the first request, and no other."""
    while True:
        data = os.read(fuse, LARGEST + 4096)
        _, opcode, unique, *_ = REQUEST.unpack_from(data)
        if opcode == INIT:
            greeting = GREETING.pack(7, 31, LARGEST, 0, 12, 9, LARGEST, 1, 32, 0, 0)
            os.write(fuse, ANSWER.pack(ANSWER.size + len(greeting), 0, unique) + greeting)


def main(point: str, pid_file: str, *command: str) -> None:
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40755,user_id=0,group_id=0"
    if ctypes.CDLL(None, use_errno=True).mount(b"hung", point.encode(), b"fuse.hung", 0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), "mount")
    server = os.fork()
    if server == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        serve(fuse)
    Path(pid_file).write_text(str(server))
    os.close(fuse)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
