# -*- test-case-name: tests.integration.test_sandbox -*-
"""
The supervisor of one sandbox VM: a program of its own, run as C{python -I -S launch.py}.

It locks the home, mounts the overlay where there is one, runs bubblewrap, notes its init, and then stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

if __name__ == "__main__":
    # There is no import path here but the standard library's.
    sys.path.append(os.path.abspath(__file__).rsplit("/", 5)[0])

from qvd.hkd.hypervisor.mounting import CLONE_NEWNS, CLONE_NEWUSER, Kernel
from qvd.hkd.hypervisor.supervisor import Supervisor, main, note_process, settle

READY, INFO, LOCK, OPTIONS = 3, 4, 5, 6
"""Descriptors as bubblewrap gets them; the guest's first command knows the numbers (C{HANDSHAKE} in C{root.py})."""


class SandboxSupervisor(Supervisor):
    """Its plan has C{options} of bubblewrap, the C{command} it runs, and C{overlay} (L{None}, or the folders C{lower},
    C{upper}, C{work} and C{merged}) besides."""

    program = "bubblewrap"

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self._init: int | None = None
        self._info = b""
        self._ready = False

    def begin(self) -> None:
        ready, info = os.pipe(), os.pipe()
        [lock] = self._locks
        descriptors = {READY: ready[1], INFO: info[1], LOCK: lock}
        self._fork(lambda output, parent: run_bubblewrap(self._plan, {1: output, 2: output} | descriptors, parent))
        for pipe, take in ((ready, self._see_ready), (info, self._see_info)):
            os.close(pipe[1])
            self._read(pipe[0], take)

    def end(self) -> None:
        if self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        elif self._ending and self._child and self._status is None:
            self._kill_setup()

    def _see_ready(self, data: bytes) -> None:
        self._ready = self._ready or bool(data)
        self._report_start()

    def _see_info(self, data: bytes) -> None:
        self._info += data
        if data or not self._info:
            return
        # It may be gone by now, or bubblewrap before it had written all of this.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            pid = json.loads(self._info)["child-pid"]
            self._init = os.pidfd_open(pid)
            note_process(self._plan["init"], pid)
        if self._ending:
            self._end()
        self._report_start()

    def _report_start(self) -> None:
        if self._ready and self._init is not None:
            self._report({"started": True})


def run_bubblewrap(plan: dict[str, Any], descriptors: dict[int, int], parent: int) -> None:
    """Become bubblewrap."""
    settle(descriptors | {OPTIONS: options_file(plan["options"])})
    prepare_namespace(plan["overlay"], parent)
    words = ["--info-fd", str(INFO), "--sync-fd", str(LOCK), "--args", str(OPTIONS), "--", *plan["command"]]
    os.execvp("bwrap", ["bwrap", *words])


def options_file(options: list[str]) -> int:
    """The guest can see bubblewrap's command line, and need not see where things lie on the host."""
    fd = os.memfd_create("options", os.MFD_CLOEXEC)
    os.write(fd, b"".join(option.encode() + b"\0" for option in options))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def prepare_namespace(overlay: dict[str, str] | None, parent: int) -> None:
    """Die with the supervisor, and mount the overlay where nobody else sees it."""
    kernel = Kernel()
    if overlay is not None:
        user, group = os.getuid(), os.getgid()
        kernel.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0))
        if user:
            write_map("setgroups", "deny")
            write_map("uid_map", f"0 {user} 1")
            write_map("gid_map", f"0 {group} 1")
        kernel.hide_mounts()
        kernel.mount_overlay(overlay, rooted=user == 0)
    kernel.die_with(parent)


def write_map(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main(SandboxSupervisor)
