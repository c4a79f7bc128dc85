"""A real node for tests: the demo's installation in a temporary folder, and a blunt client."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import psycopg2.extras

from qvd.demo.installation import Installation, NodeProcess, stop_daemons
from qvd.hkd.hypervisor.pidfd import identify
from qvd.hkd.hypervisor.state import StateFolder
from qvd.model.settings import flatten
from qvd.protocols.http1 import Response, ResponseReader

SECONDS = 30.0
"""Patience with anything that should happen soon."""


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until C{condition} gives something true, and return it."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not in {seconds:g} s: {what}")
        time.sleep(0.02)


class Farm:
    """One installation with its node."""

    def __init__(self, folder: Path, x_session: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.installation = Installation(folder, self.port, free_port(), x_session, overrides)
        self.node: NodeProcess | None = None

    def start(self) -> None:
        self.installation.postgres.start()
        self.installation.prepare()
        self.start_node()

    def start_node(self) -> None:
        self.node = NodeProcess(self.folder)
        self.node.await_ready()

    def upgrade_node(self) -> NodeProcess:
        """Start one more daemon, which takes over; return the former one, which may keep some clients."""
        former = self.node
        assert former is not None
        self.start_node()
        return former

    def stop_node(self) -> None:
        if self.node is not None:
            self.node.stop()
            self.node = None
        stop_daemons(self.run)

    def kill_node(self) -> None:
        """SIGKILL: no time for farewells."""
        assert self.node is not None
        self.node.process.kill()
        self.node.process.wait()
        self.node = None

    def kill_machine(self) -> None:
        """The node and its guests, all at once: as a machine that loses its power."""
        self.kill_node()
        kill_guests(self.run)

    @property
    def run(self) -> Path:
        """The node's run folder."""
        return self.folder / "run"

    def stop(self) -> None:
        try:
            if self.node is None and self.installation.postgres.pid is not None:
                # What a killed node left running is ended by its successor.
                self.start_node()
            self.stop_node()
        finally:
            self.installation.postgres.stop()

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text(errors="replace")

    @property
    def credentials(self) -> dict[str, Any]:
        return self.installation.credentials

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Ask the database, as its superuser."""
        with contextlib.closing(psycopg2.connect(self.installation.admin_dsn)) as connection:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(sql, values)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def vm(self, vm_id: int | None = None) -> dict[str, Any]:
        """The run-time row of a VM, the first one by default."""
        return self.rows("SELECT * FROM vm_runtimes WHERE vm_id = %s", vm_id or self.credentials["vm_id"])[0]

    def client(self, login: str | None = None, password: str | None = None, port: int | None = None) -> Client:
        """A connection with the demo user's credentials, or others.

        @param port: of another node.
        """
        known = self.credentials
        return Client(
            port or self.port,
            Path(known["ca_file"]),
            f"{known['user']}@{known['tenant']}" if login is None else login,
            known["password"] if password is None else password,
        )

    def run_client(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The real C{qvd-client}, with the demo's credentials."""
        program = Path(sys.executable).with_name("qvd-client")
        return subprocess.Popen(
            [str(program), *arguments, "--demo", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def guest_processes(self, word: str, run: Path | None = None) -> list[psutil.Process]:
        """The processes inside the guests of this farm's node whose command line has C{word} in it.

        @param run: the run folder of another node.
        """
        found = []
        for file in ((run or self.run) / "vms").glob("*/init.json"):
            # A file that has gone meanwhile was of a guest that has gone.
            with contextlib.suppress(psutil.Error, FileNotFoundError):
                for process in psutil.Process(json.loads(file.read_text())["pid"]).children(recursive=True):
                    if word in " ".join(process.cmdline()):
                        found.append(process)
        return found


def kill_guests(run: Path) -> None:
    """SIGKILL for the supervisors and the guests of a run folder, and nobody else who has their pids by now."""
    states = StateFolder(run)
    for vm_id in states.ids():
        state = states.read(vm_id)
        for process in (state.supervisor, state.init) if state is not None else ():
            if process is not None and identify(process.pid) == process:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


class OtherNode:
    """One more node of a farm that runs: a run folder and ports of its own, and everything else of the farm's.

    @param known: its row is there; else it has to be enrolled.
    @param overrides: settings of its own.
    """

    def __init__(self, farm: Farm, name: str, known: bool = True, overrides: Mapping[str, Any] | None = None) -> None:
        self.farm = farm
        self.folder = farm.folder / name
        self.run = self.folder / "run"
        self.port = free_port()
        self.node: NodeProcess | None = None
        self.folder.mkdir()
        values = {
            **dict(flatten(tomllib.loads((farm.folder / "node.conf").read_text()))),
            "nodename": name,
            "node.identity": str(self.folder / "node.identity"),
            "path.run": str(self.run),
            "path.storage.overlays": str(self.folder / "overlays"),
            "l7r.port": self.port,
            "admin.port": 0,
            **(overrides or {}),
        }
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        (self.folder / "node.conf").write_text("".join(lines))
        if known:
            farm.rows("INSERT INTO hosts (name, address) VALUES (%s, '127.0.0.1')", name)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        self.node = NodeProcess(self.folder, environment)
        self.node.await_ready()

    def stop(self) -> None:
        if self.node is not None:
            self.node.stop()
            self.node = None
        stop_daemons(self.run)
        kill_guests(self.run)

    def client(self) -> Client:
        return self.farm.client(port=self.port)

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text(errors="replace")


class Client:
    """Speaks to the L7R in plain words. Not a model of any real client."""

    def __init__(self, port: int, ca_file: Path, login: str, password: str) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        raw = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self._authorization = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
        self._reader = ResponseReader(65536, 1 << 20)

    def send(self, path: str, *headers: str, authorization: str | None = None) -> None:
        lines = [f"GET {path} HTTP/1.1", f"Authorization: {authorization or self._authorization}", *headers]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def receive(self) -> Response:
        """The next reply, interim ones too."""
        while True:
            response = self._reader.next_response()
            if response is not None:
                return response
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the server closed the connection")
            self._reader.feed(data)

    def final(self) -> Response:
        """The next reply that is none of the 102s."""
        while True:
            response = self.receive()
            if response.head.status != 102:
                return response

    def get(self, path: str, *headers: str, authorization: str | None = None) -> Response:
        self.send(path, *headers, authorization=authorization)
        return self.final()

    def list(self) -> list[dict[str, Any]]:
        response = self.get("/qvd/list_of_vm?")
        assert response.head.status == 200, response
        vms: list[dict[str, Any]] = json.loads(response.body)
        return vms

    def send_connect(self, vm_id: int) -> None:
        """Ask for a desktop."""
        wishes = ["keyboard=pc105%2Fus", "os=linux", "link=lan", "geometry=800x600", "fullscreen=0"]
        query = "&".join(f"qvd.client.{wish}" for wish in wishes)
        self.send(f"/qvd/connect_to_vm?id={vm_id}&{query}", "Connection: Upgrade", "Upgrade: QVD/1.0")

    def connect(self, vm_id: int) -> Response:
        self.send_connect(vm_id)
        return self.final()

    def closed(self) -> bool:
        """Does the server end the connection (soon)?"""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def display(width: int = 1024, height: int = 768) -> Iterator[str]:
    """A screen of its own: Xvfb on a display that it chooses.

    By itself it begins anew each time when the last program that looked at it ends, and throws out who just connects.
    """
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[write_end],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as answer:
            number = answer.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
