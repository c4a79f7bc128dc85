"""C{make demo}'s program from start to Ctrl-C, with a desktop that is looked at and typed into."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qvd.demo.installation import daemons
from tests.conftest import require
from tests.integration.farm import display, eventually, free_port
from tests.integration.screen import look, type_line

SESSION = """#!/bin/sh
# What it leaves in the home stays; what it leaves elsewhere does not.
test -e /etc/thrown-away && touch "$HOME/etc-was-kept"
test -e /usr/thrown-away && touch "$HOME/usr-was-kept"
echo here > "$HOME/kept"
{ echo there > /etc/thrown-away; echo there > /usr/thrown-away; } 2>/dev/null
exec openbox --startup "xterm -geometry 80x24+20+20 -bg '#102030' -fg white"
"""
BACKGROUND = 0x102030


class DemoProcess:
    """The demo, in a folder of its own."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        environment = {
            **os.environ,
            "QVD_DEMO_DIR": str(folder),
            "QVD_DEMO_PORT": str(self.ports[0]),
            "QVD_DEMO_ADMIN_PORT": str(self.ports[1]),
            "QVD_DEMO_X_SESSION": str(program),
        }
        demo = Path(sys.executable).with_name("qvd-demo")
        self.process = subprocess.Popen(
            [str(demo)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first == "QVD demo ready\n", first + self.process.stdout.read()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, output

    def client(self, *words: str, screen: str = "") -> subprocess.Popen[str]:
        program = Path(sys.executable).with_name("qvd-client")
        return subprocess.Popen(
            [str(program), *words, "--demo", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DISPLAY": screen},
        )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "session"
    path.write_text(SESSION)
    path.chmod(0o755)
    return path


@pytest.fixture
def screen() -> Iterator[str]:
    require("Xvfb", "openbox")
    with display() as name:
        manager = subprocess.Popen(
            ["openbox"], env={**os.environ, "DISPLAY": name}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        yield name
        manager.terminate()
        manager.wait(10)


def remains(folder: Path) -> list[str]:
    """Processes and mounts that have to do with a folder."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(f"{process.pid} {words}")
    return found


def ask(credentials: dict[str, Any], path: str) -> Any:
    """The administration's answer."""
    context = ssl.create_default_context(cafile=credentials["ca_file"])
    with urllib.request.urlopen(credentials["admin_url"] + path, timeout=30, context=context) as answer:
        return json.load(answer)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_desktop_from_start_to_stop(tmp_path: Path, program: Path, screen: str) -> None:
    require("bwrap", "nxagent", "nxproxy", "xterm", "xwd", "xdotool")
    folder = tmp_path / "demo"
    demo = DemoProcess(folder, program)
    try:
        credentials = json.loads((folder / "credentials.json").read_text())
        assert (folder / "credentials.json").stat().st_mode & 0o777 == 0o600
        assert ask(credentials, "readyz") == {"status": "ready"}
        assert ask(credentials, "api/v1/openapi.json")["openapi"].startswith("3.1")
        listed, errors = demo.client("list", "--json").communicate(timeout=60)
        vms = json.loads(listed)
        assert [vm["name"] for vm in vms] == ["desktop", "second"], errors
        assert vms[0]["id"] == credentials["vm_id"] and vms[0]["state"] == "stopped"

        client = demo.client("connect", screen=screen)
        terminal = eventually(lambda: look(screen).colors[BACKGROUND] > 50_000, "the terminal is painted", 90)
        assert terminal
        home = next((folder / "homes").glob(f"*/{credentials['vm_id']}"))
        place = spot_of(screen)
        eventually(lambda: typed(screen, place, home), "what was typed arrives in the guest")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=30)
    finally:
        demo.stop()
    assert not [port for port in demo.ports if listens(port)]
    assert remains(folder) == []

    demo = DemoProcess(folder, program)
    try:
        assert json.loads((folder / "credentials.json").read_text())["password"] == credentials["password"]
        (home / "kept").unlink()
        client = demo.client("connect", screen=screen)
        # The program writes it anew, after it has looked for what it left elsewhere.
        eventually((home / "kept").exists, "the second session has begun", 90)
        assert (home / "typed").read_text() == "by a person\n"
        assert not list(home.glob("*-was-kept"))
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=30)
    finally:
        demo.stop()
    assert remains(folder) == []


def test_a_demo_whose_node_was_upgraded_still_ends_as_one(tmp_path: Path, program: Path) -> None:
    require("bwrap", "nxagent")
    folder = tmp_path / "demo"
    demo = DemoProcess(folder, program)
    try:
        (before,) = daemons(folder / "run")
        os.kill(before, signal.SIGHUP)
        eventually(lambda: daemons(folder / "run") not in ([], [before]), "another daemon has begun")
        eventually(lambda: before not in daemons(folder / "run"), "the former one has ended")
        assert demo.process.poll() is None
        listed, errors = demo.client("list", "--json").communicate(timeout=60)
        assert len(json.loads(listed)) == 2, errors
    finally:
        demo.stop()
    assert remains(folder) == []


def spot_of(screen: str) -> tuple[int, int]:
    """A place inside the terminal."""
    picture = look(screen)
    places = [index for index, color in enumerate(picture.pixels) if color == BACKGROUND]
    middle = places[len(places) // 2]
    return middle % picture.width, middle // picture.width


def typed(screen: str, place: tuple[int, int], home: Path) -> bool:
    type_line(screen, *place, "echo by a person > ~/typed")
    try:
        eventually((home / "typed").exists, "typed", 3)
    except AssertionError:
        return False
    return True


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {**os.environ, "QVD_DEMO_DIR": str(tmp_path), "QVD_DEMO_PORT": str(taken.getsockname()[1])}
        demo = Path(sys.executable).with_name("qvd-demo")
        done = subprocess.run([str(demo)], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "QVD_DEMO_PORT" in done.stderr


README = Path(__file__).resolve().parents[2] / "README.md"


def readme_lines() -> list[str]:
    """The README's calls of the administration."""
    section = README.read_text().partition("## Administration")[2].partition("```sh\n")[2].partition("```")[0]
    return section.strip().splitlines()


def test_the_readme_has_five_calls() -> None:
    lines = readme_lines()
    assert len(lines) == 5
    assert all("curl -K .demo/curl.conf" in line and "https://localhost:9443/" in line for line in lines)


def test_the_readmes_calls_work_as_written(tmp_path: Path, program: Path) -> None:
    require("bwrap", "nxagent", "curl", "sed", "sh")
    folder = tmp_path / "demo"
    demo = DemoProcess(folder, program)
    try:
        script = "set -e\n" + "\n".join(readme_lines())
        script = script.replace(".demo/", f"{folder}/").replace(":9443/", f":{demo.ports[1]}/")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        listed, made, found = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
        assert [each["name"] for each in listed["items"]] == ["alice"]
        assert made["name"] == "bob"
        assert [each["name"] for each in found["items"]] == ["bob"]
    finally:
        demo.stop()


def test_a_demo_ends_with_any_of_its_daemons(tmp_path: Path, program: Path) -> None:
    require("bwrap", "nxagent")
    folder = tmp_path / "demo"
    demo = DemoProcess(folder, program)
    [daemon] = [each for each in psutil.Process(demo.process.pid).children() if "qvd-admin" in each.cmdline()]
    daemon.terminate()
    output, _ = demo.process.communicate(timeout=60)
    assert demo.process.returncode != 0
    assert "the admin daemon has ended" in output
    assert remains(folder) == []
