"""What hangs does not hang the doctor: file servers, databases, the process that looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from qvd.doctor import asking
from qvd.doctor.asking import ask
from qvd.doctor.findings import About
from qvd.doctor.look import Orders
from qvd.doctor.report import FAILED
from tests.conftest import missing
from tests.doctor import hanging
from tests.doctor.world import Setup, bad, rooted
from tests.fakes.postgres import RealPostgres

DOCTOR = Path(sys.executable).with_name("qvd-doctor")
LONGEST = 100.0
"""The longest deadline of what is asked here, and what else it takes on a busy machine."""


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[list[str]]:
    """Words before a command: the homes are on a server that hangs."""
    if not rooted() or not os.path.exists("/dev/fuse"):
        missing("root, /dev/fuse")
    server = tmp_path / "server.pid"
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, hanging.__file__]
    yield [*words, str(tmp_path / "homes"), str(server)]
    if server.exists():
        os.kill(int(server.read_text()), signal.SIGKILL)


def test_a_file_server_that_hangs(setup: Setup, hung: list[str]) -> None:
    """Nor does the process that looks keep the command waiting, though nothing can end it."""
    setup.look(["settings"])
    files = ["--node", f"{setup.folder}/node.conf", "--only", "storage.space", "--only", "clock", "--json"]
    begun = time.monotonic()
    done = subprocess.run([*hung, str(DOCTOR), *files], capture_output=True, text=True, timeout=120, check=False)
    assert time.monotonic() - begun < LONGEST
    assert done.returncode == FAILED, done.stderr
    found = json.loads(done.stdout)["findings"]
    [told] = [each for each in found if each["result"] == "failure"]
    assert told["check"] == "storage.space"
    assert "what is looked at hangs" in told["sentence"]
    assert "file server" in told["mend"]
    # What comes before the hanging folder was told, and other checks were made.
    assert {each["looked_at"].partition(" ")[0] for each in found} >= {f"{setup.folder}/images", "this"}


def test_a_database_that_is_stopped(setup: Setup, postgres: RealPostgres) -> None:
    postgres.stop()
    try:
        report = setup.look()
    finally:
        postgres.start()
    assert {each.check for each in bad(report)} == {"database.reachable"}
    assert all("start PostgreSQL" in each.mend for each in bad(report))


def test_a_database_that_is_mute(setup: Setup, postgres: RealPostgres) -> None:
    """It takes connections, as a server whose disk hangs does, and says nothing."""
    postgres.pause()
    begun = time.monotonic()
    try:
        report = setup.look()
    finally:
        postgres.resume()
    assert time.monotonic() - begun < LONGEST
    assert {each.check for each in bad(report)} == {"database.reachable"}
    assert all("says nothing" in each.mend for each in bad(report))


def test_a_wrong_password(setup: Setup, postgres: RealPostgres) -> None:
    address = parse_dsn(make_dsn(postgres.over_tcp(setup.dsn)))
    wrong = {
        "database.host": address["host"],
        "database.port": int(address["port"]),
        "database.password": "not-the-one-9c1f",
    }
    setup.node.update(wrong)
    report = setup.look()
    [found] = bad(report)
    assert found.check == "database.reachable"
    assert "password authentication failed" in found.sentence
    assert "set database.password" in found.mend
    assert "not-the-one-9c1f" not in report.text(True) + json.dumps(report.document())


def test_a_process_that_does_not_look(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = Orders({About.NODE: setup.folder / "node.conf"})
    monkeypatch.setattr(asking, "COMMAND", ("sleep", "60"))
    [found] = ask(orders, 0.5)
    assert found.check == "doctor.whole"
    monkeypatch.setattr(asking, "COMMAND", ("false",))
    [found] = ask(orders, 30)
    assert found.check == "doctor.whole"
