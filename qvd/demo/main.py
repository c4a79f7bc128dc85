# -*- test-case-name: tests.integration.test_demo -*-
"""
C{make demo}: an embedded PostgreSQL, a small installation, a real node and the administration.

This process is plain and synchronous: it starts the database and the daemons, says how to connect, and waits. A Ctrl-C
is for it alone: it stops the daemons in order, and the database last.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from attrs import frozen

from qvd.demo.installation import (
    POLL_SECONDS,
    AdminProcess,
    DaemonProcess,
    DemoError,
    Installation,
    NodeProcess,
    stop_daemons,
)
from qvd.model.errors import QVDError


@frozen
class Options:
    """Where the demo lives and listens."""

    folder: Path
    port: int
    admin_port: int
    x_session: Path | None


def options_of(environment: Mapping[str, str]) -> Options:
    """@raise DemoError: a port is no port, or the session program cannot be run."""

    def port(name: str, default: int) -> int:
        text = environment.get(name, str(default))
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
            raise DemoError(f"{name} is {text!r}: not a port")
        return int(text)

    program = environment.get("QVD_DEMO_X_SESSION")
    if program and not (Path(program).is_file() and os.access(program, os.X_OK)):
        raise DemoError(f"QVD_DEMO_X_SESSION is {program}: not a program that can be run")
    return Options(
        folder=Path(environment.get("QVD_DEMO_DIR") or ".demo").absolute(),
        port=port("QVD_DEMO_PORT", 8443),
        admin_port=port("QVD_DEMO_ADMIN_PORT", 9443),
        x_session=Path(program).absolute() if program else None,
    )


def check_ports(options: Options) -> None:
    """@raise DemoError: somebody has one of them; it says how to choose another."""
    for name, port in (("QVD_DEMO_PORT", options.port), ("QVD_DEMO_ADMIN_PORT", options.admin_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise DemoError(f"Port {port} is in use: choose another one with {name}=...") from None


def run(options: Options) -> int:
    """Start, wait for the end, stop everything. Returns the exit status."""
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(options.folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"A demo is running in {options.folder} already") from None
        check_ports(options)
        installation = Installation(options.folder, options.port, options.admin_port, options.x_session)
        try:
            installation.postgres.start()
            installation.prepare()
            return serve(installation)
        finally:
            installation.postgres.stop()


def serve(installation: Installation) -> int:
    """Run node and administration until one of them ends."""
    started: list[DaemonProcess] = []
    try:
        for kind in (NodeProcess, AdminProcess):
            started.append(kind(installation.folder))
        for daemon in started:
            daemon.await_ready()
        announce(installation)
        while all(daemon.runs for daemon in started):
            time.sleep(POLL_SECONDS)
        [ended, *_] = [daemon for daemon in started if not daemon.runs]
        print(f"qvd-demo: the {ended.kind} daemon has ended, and its log says why", file=sys.stderr)
        return ended.process.returncode or 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for daemon in reversed(started):
            daemon.stop()
        stop_daemons(installation.folder / "run")


def announce(installation: Installation) -> None:
    """Say that all is up, and how to connect."""
    folder, credentials = installation.folder, installation.credentials
    client = Path(sys.executable).with_name("qvd-client")
    print("QVD demo ready", flush=True)
    print(f"  Connect:         {client} connect --demo {folder}")
    print(f"  Other clients:   host {credentials['host']}, port {credentials['port']},")
    print(f"                   user {credentials['user']}@{credentials['tenant']}, password {credentials['password']},")
    print(f"                   certificate authority {credentials['ca_file']}")
    print(f"  Administration:  {credentials['admin_url']}api/v1/docs")
    print(f"                   as {credentials['admin_user']}, password {credentials['admin_password']}")
    print(f"  For programs:    {folder / 'credentials.json'}")
    print(f"  The logs:        {folder / 'node.log'}, {folder / 'admin.log'}")
    print("  Ctrl-C stops everything.", flush=True)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A TERM ends the demo as a Ctrl-C does. So does an INT that whoever started us in the background has ignored."""
    raise KeyboardInterrupt


def main() -> int:
    """Console script C{qvd-demo}."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    try:
        return run(options_of(os.environ))
    except KeyboardInterrupt:
        print("QVD demo stopped", flush=True)
        return 0
    except QVDError as error:
        print(f"qvd-demo: {error.text}", file=sys.stderr)
        return 1
