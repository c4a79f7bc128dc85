"""The real agent as a child process in a sandbox of its own, and what a node and a client do to it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qvd.agent.family import family, process_table
from qvd.hkd.hypervisor.sandbox.guestpython import host_python
from qvd.model.secret import Secret
from qvd.protocols.http1 import Response, ResponseReader
from qvd.protocols.simplerpc import Call, Result, RPCError, decode_reply, encode_call

PATIENCE = 30.0
PROGRAMS = ("nxagent", "nxproxy", "Xvfb", "bwrap", "xterm", "xdpyinfo")
SYSTEM = ("X11", "alternatives", "fonts", "ld.so.cache", "nxagent", "terminfo")
UID = 1000
SESSION = """#!/bin/sh
xdpyinfo > screen
XAUTHORITY=/dev/null xdpyinfo > intruder 2>&1
env > environment
echo started >> sessions
sleep 987654 &
exec xterm
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until C{condition} gives something true, and return it."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not in {PATIENCE:g} s: {what}")


def free_display() -> int:
    """A display whose NX port and X port nobody has now. nxagent's port is never tried once it is there."""
    for _ in range(100):
        display = random.randrange(2000, 20000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 4000 + display))
            second.bind(("127.0.0.1", 6000 + display))
            return display
    raise AssertionError("no free display")


class AgentGuest:
    """One guest.

    @ivar home: the home, as the host sees it.
    """

    def __init__(self, folder: Path, session: str = SESSION) -> None:
        self.home = folder / "home"
        self.display = free_display()
        self.secret = secrets.token_urlsafe(32)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._session = session

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._write_files()
        with (self._folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._answers, "the agent answers")

    def stop(self) -> None:
        """End the whole sandbox, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def inside(self, program: str) -> list[int]:
        """Processes of the guest that run C{program}, oldest first."""
        assert self.process is not None
        found = []
        for member in family(process_table(), self.process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{member.pid}/comm").read_text().strip() == program:
                    found.append((member.started, member.pid))
        return [pid for _, pid in sorted(found)]

    def signal_inside(self, program: str, number: signal.Signals) -> None:
        """To the oldest that runs C{program}."""
        os.kill(self.inside(program)[0], number)

    def signal_agent(self, number: signal.Signals) -> None:
        """To the child of the guest's process 1."""
        assert self.process is not None
        table = process_table()
        (init,) = (process.pid for process in table.values() if process.parent == self.process.pid)
        (agent,) = (process.pid for process in table.values() if process.parent == init)
        os.kill(agent, number)

    def ask(self, method: str, arguments: Mapping[str, str] | None = None, secret: str | None = None) -> Response:
        """One call on a connection of its own."""
        reader = ResponseReader(16384, 65536)
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(encode_call(Call(method, arguments or {}), Secret(secret or self.secret)))
            while True:
                data = connection.recv(65536)
                assert data, "the agent closed the connection"
                reader.feed(data)
                response = reader.next_response()
                if response is not None:
                    return response

    def call(self, method: str, **arguments: str) -> Any:
        """The method's result."""
        answer = self.try_call(method, arguments)
        assert isinstance(answer, Result), answer
        return answer.value

    def try_call(self, method: str, arguments: Mapping[str, str] | None = None) -> Result | RPCError:
        response = self.ask(method, arguments)
        assert response.head.status == 200, response
        return decode_reply(response)

    def x_start(self, **more: str) -> Result | RPCError:
        return self.try_call("x_start", {"qvd.vm.user.name": "alice", "qvd.client.geometry": "640x480", **more})

    def await_state(self, state: str) -> None:
        until(lambda: self.call("x_state") == state, f"the state {state}")

    def await_listening(self) -> None:
        """As the node does: order until it is obeyed."""

        def listens() -> bool:
            return isinstance(self.x_start(), Result) and self._reaches_listening()

        until(listens, "an X session that listens")

    def await_session(self, number: int) -> None:
        """Wait for the session program's C{number}th start."""
        file = self.home / "sessions"
        until(lambda: file.exists() and len(file.read_text().splitlines()) == number, f"session {number}")

    def await_client(self, number: int = 1) -> None:
        """Wait until the C{number}th client is through its negotiations."""
        until(lambda: self.log().count("negotiating to connected") == number, f"client {number}")

    def log(self) -> str:
        return (self._folder / "agent.log").read_text()

    def _reaches_listening(self) -> bool:
        state = until(lambda: (state := self.call("x_state")) != "starting" and state, "an end of the start")
        return bool(state == "listening")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.ask("ping").head.status == 200
        except OSError:
            return False

    def _write_files(self) -> None:
        self.home.mkdir(exist_ok=True)
        files = {
            "passwd": f"root:x:0:0::/root:/bin/sh\nalice:x:{UID}:{UID}::/home/alice:/bin/bash\n",
            "group": f"root:x:0:\nalice:x:{UID}:\n",
            "x-session": self._session,
            "guest.json": json.dumps(
                {
                    "driver": "sandbox",
                    "vm_id": 9,
                    "secret": self.secret,
                    "address": "127.0.0.1",
                    "vma_port": self.port,
                    "display": self.display,
                    "login": "alice",
                    "home": "/home/alice",
                    "x_session": "/.qvd/x-session",
                }
            ),
        }
        for name, text in files.items():
            (self._folder / name).write_text(text)
        (self._folder / "x-session").chmod(0o755)

    def _command(self) -> list[str]:
        python = host_python()
        words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
        words += ["--new-session", "--uid", str(UID), "--gid", str(UID), "--ro-bind", "/usr", "/usr"]
        for name in ("bin", "lib", "lib64", "sbin"):
            words += ["--symlink", f"usr/{name}", f"/{name}"]
        for name in SYSTEM:
            words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for name, place in (("passwd", "/etc"), ("group", "/etc"), ("guest.json", "/.qvd"), ("x-session", "/.qvd")):
            words += ["--ro-bind", str(self._folder / name), f"{place}/{name}"]
        for source, target in python.binds:
            words += ["--ro-bind", str(source), target]
        words += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/var", "--proc", "/proc", "--dev", "/dev"]
        words += ["--bind", str(self.home), "/home/alice", "--chdir", "/tmp", "--clearenv"]
        for name, value in {"PATH": "/usr/bin:/bin", "HOME": "/home/alice", "PYTHONPATH": "/.qvd/lib"}.items():
            words += ["--setenv", name, value]
        return [*words, "--", python.executable, "-P", "-m", "twisted", "--log-format", "text", "qvd-vma"]


class Screen:
    """A user's own screen, and NX clients on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        reading, writing = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as file:
            self.name = f":{file.readline().strip()}"

    @contextlib.contextmanager
    def client(self, display: int) -> Iterator[subprocess.Popen[bytes]]:
        """A client of nxagent, ended with C{kill -9}, as a lost network would have it."""
        environment = {**os.environ, "DISPLAY": self.name, "HOME": str(self._folder)}
        with (self._folder / "nxproxy.log").open("ab") as log:
            client = subprocess.Popen(
                ["nxproxy", "-S", f"localhost:{display}"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield client
        finally:
            client.kill()
            client.wait(PATIENCE)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(PATIENCE)


def missing_namespaces() -> str | None:
    """Why bubblewrap cannot work here."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    tried = subprocess.run(
        ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "/bin/true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return None if tried.returncode == 0 else f"bubblewrap: {tried.stderr.strip()}"
