"""A farm with a terminal for a desktop, and real clients that look at it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import require
from tests.integration.farm import Farm, eventually

SESSION = """#!/bin/sh
exec xterm -geometry 80x24+0+0
"""


@contextlib.contextmanager
def desktop_farm(folder: Path, overrides: Mapping[str, Any] | None = None) -> Iterator[Farm]:
    """A node that notices soon what has died, and takes its VMs along when it stops."""
    require("bwrap", "nxagent", "xterm")
    program = folder / "session"
    program.write_text(SESSION)
    program.chmod(0o755)
    settings = {"hkd.stop.vms": True, "hkd.watch.interval": 1.0, "hkd.watch.failures": 2, **(overrides or {})}
    farm = Farm(folder, program, settings)
    farm.start()
    try:
        yield farm
    finally:
        farm.stop()


class Desktop:
    """A real client with a desktop on a screen."""

    def __init__(self, farm: Farm, screen: str, vm_id: int | None = None) -> None:
        self.farm = farm
        self.vm_id = vm_id or farm.credentials["vm_id"]
        self.process = farm.run_client("connect", "--vm", str(self.vm_id), environment={"DISPLAY": screen})
        eventually(self.connected, "a session", 90)
        # Until its first client is through, nxagent takes an end of the connection for a reason to give up.
        eventually(lambda: farm.guest_processes("xterm -geometry"), "a desktop")

    def session(self) -> str:
        rows = self.farm.rows(
            "SELECT s.id::text FROM vm_runtimes r JOIN sessions s ON s.id = r.session_id"
            " WHERE r.vm_id = %s AND s.state = 'connected'",
            self.vm_id,
        )
        return str(rows[0]["id"]) if rows else ""

    def connected(self) -> str:
        assert self.process.poll() is None, self.process.communicate()
        return self.session()

    def close(self) -> str:
        """Go; return what the client had to say."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=30)
        return errors


def nxagents(farm: Farm) -> list[psutil.Process]:
    """Those that are running, without the watchdogs that they fork."""
    found = farm.guest_processes("/usr/bin/nxagent")
    numbers = {process.pid for process in found}
    first = []
    for process in found:
        # What an nxagent has forked may have been seen just before it became another program, or ended.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in numbers:
                first.append(process)
    return first
