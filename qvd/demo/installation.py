# -*- test-case-name: tests.integration.test_demo -*-
"""A whole installation in one folder: database, certificates, seed, daemons. For the demo, the tests and bench."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2

from qvd.db import migrate
from qvd.demo.postgres import EmbeddedPostgres
from qvd.demo.seed import NODE, seed, write_cli_files, write_credentials, write_curl_files
from qvd.demo.tls import make_certificates, write_private
from qvd.model.errors import QVDError

DATABASE = "qvd"
START_SECONDS = 60
STOP_SECONDS = 60
POLL_SECONDS = 0.2
SESSION_PROGRAM = """#!/bin/sh
# The demo desktop: a window manager and a terminal. The session ends when the window manager does, which starts the
# terminal itself: one that opens its window while openbox starts is now and then overlooked.
exec openbox --startup 'xterm -geometry 100x30+40+40 -fa Monospace -fs 11 -T "QVD demo desktop"'
"""


class DemoError(QVDError):
    """The demo cannot start."""

    code = "demo"


class DaemonProcess:
    """A daemon under C{twistd}, whose readiness is heard through C{NOTIFY_SOCKET}.

    @param folder: holds C{NAME.conf} and gets C{NAME.log}; both are named after C{kind}.
    @param environment: variables besides our own.
    """

    kind = ""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = folder / f"{self.kind}.log"
        # An abstract address: no path that could be too long, nothing left behind.
        name = f"qvd-{os.getpid()}-{secrets.token_hex(8)}"
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(f"\0{name}")
        self._channel.settimeout(POLL_SECONDS)
        twistd = Path(sys.executable).with_name("twistd")
        # It must not outlive us, and a Ctrl-C is for us, who then stop it in order.
        command = ["setpriv", "--pdeathsig=TERM", "--", str(twistd), "-n", "--pidfile=", f"qvd-{self.kind}"]
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(folder / f"{self.kind}.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {}), "NOTIFY_SOCKET": f"@{name}"},
                cwd=folder,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        """@raise DemoError: it ended, or took too long."""
        try:
            for _ in range(int(START_SECONDS / POLL_SECONDS)):
                try:
                    if self._channel.recv(4096).startswith(b"READY=1"):
                        return
                except TimeoutError:
                    pass
                if self.process.poll() is not None:
                    raise DemoError(
                        f"The {self.kind} daemon ended with status {self.process.returncode}; see {self._log}"
                    )
            raise DemoError(f"The {self.kind} daemon was not ready in {START_SECONDS} s; see {self._log}")
        finally:
            self._channel.close()

    @property
    def runs(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def stop(self) -> None:
        """In order, and by force where that takes too long. No effect on one that has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class NodeProcess(DaemonProcess):
    """A C{twistd qvd-node}."""

    kind = "node"

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._run = folder / "run"
        super().__init__(folder, environment)

    @property
    def runs(self) -> bool:
        """It has not ended, nor have those that were started to take over from it (SIGHUP)."""
        return super().runs or bool(daemons(self._run))


class AdminProcess(DaemonProcess):
    """A C{twistd qvd-admin}."""

    kind = "admin"


def daemons(run: Path) -> list[int]:
    """The processes of the node with that run folder: more than one while it is upgraded. Each holds a lock."""
    found = []
    for path in (run / "daemons").glob("*"):
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(int(file.read()))
    return found


def stop_daemons(run: Path) -> None:
    """Those that nobody here is the parent of: in order, and by force where that takes too long."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        for pid in daemons(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + seconds
        while daemons(run) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


class Installation:
    """Files, database, node and administration below C{folder}.

    @param x_session: program of the desktops; L{None}: a window manager and a terminal.
    @param overrides: settings of the node that differ from the demo's.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        admin_port: int,
        x_session: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self._port = port
        self._admin_port = admin_port
        self._x_session = x_session
        self._overrides = overrides or {}

    @property
    def admin_dsn(self) -> str:
        """The database, as its superuser."""
        return self.postgres.dsn(DATABASE)

    @property
    def credentials(self) -> dict[str, Any]:
        """What clients are given."""
        document: dict[str, Any] = json.loads((self.folder / "credentials.json").read_text())
        return document

    def prepare(self) -> None:
        """All that the node needs, with the database running: made at the first start, kept for the next ones."""
        tls = self.folder / "tls"
        if not (tls / "key.pem").exists():
            make_certificates(tls)
        seeded = self.folder / "seed.json"
        if not seeded.exists():
            self._make_database(seeded)
        migrate.apply_all(self.admin_dsn)
        self._write_session_program()
        self.write_node_conf()
        self.write_admin_conf()
        write_credentials(
            self.folder / "credentials.json",
            json.loads(seeded.read_text()),
            self._port,
            self._admin_port,
            tls / "ca.pem",
        )
        write_curl_files(self.folder, self.credentials)
        write_cli_files(self.folder, self.credentials)

    def _make_database(self, seeded: Path) -> None:
        """C{seeded} is written last: a first start that was cut off begins anew."""
        connection = psycopg2.connect(self.postgres.dsn("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.close()
        self.postgres.create_database(DATABASE)
        migrate.initialize(self.admin_dsn, login_roles=True)
        write_private(seeded, json.dumps(seed(self.admin_dsn)).encode())

    def _write_session_program(self) -> None:
        target = self.folder / "x-session"
        target.unlink(missing_ok=True)
        if self._x_session is None:
            target.write_text(SESSION_PROGRAM)
        else:
            shutil.copyfile(self._x_session, target)
        target.chmod(0o755)

    def write_node_conf(self) -> None:
        """The node's settings; also after a change of the database's address."""
        tls = self.folder / "tls"
        values: dict[str, Any] = {
            "nodename": NODE,
            "node.identity": str(self.folder / "node.identity"),
            "database.host": str(self.postgres.socket_folder),
            "database.port": self.postgres.port,
            "database.name": DATABASE,
            "database.user": "qvd_node",
            "path.run": str(self.folder / "run"),
            "path.storage.images": str(self.folder / "images"),
            "path.storage.homes": str(self.folder / "homes"),
            "path.storage.overlays": str(self.folder / "overlays"),
            "l7r.address": "127.0.0.1",
            "l7r.port": self._port,
            "l7r.tls.cert": str(tls / "cert.pem"),
            "l7r.tls.key": str(tls / "key.pem"),
            "l7r.auth.tenant": "demo",
            # Together less than STOP_SECONDS, so that a guest that resists is killed by the node itself.
            "hkd.stop.vms": True,
            "hkd.stop.timeout": 8.0,
            "hkd.timeout.shutdown": 5.0,
            "hkd.timeout.kill": 2.0,
            "vm.sandbox.host_files": True,
            "vm.sandbox.x_session": str(self.folder / "x-session"),
            **self._overrides,
        }
        write_conf(self.folder / "node.conf", values)

    def write_admin_conf(self) -> None:
        """The administration's settings."""
        tls = self.folder / "tls"
        values = {
            "database.host": str(self.postgres.socket_folder),
            "database.port": self.postgres.port,
            "database.name": DATABASE,
            "admin.address": "127.0.0.1",
            "admin.port": self._admin_port,
            "admin.tls.cert": str(tls / "cert.pem"),
            "admin.tls.key": str(tls / "key.pem"),
            "path.storage.images": str(self.folder / "images"),
            "path.storage.staging": str(self.folder / "staging"),
        }
        write_conf(self.folder / "admin.conf", values)


def write_conf(path: Path, values: Mapping[str, Any]) -> None:
    """A daemon's settings."""
    # A JSON text, number or truth value is a TOML one too.
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    write_private(path, "".join(lines).encode())
