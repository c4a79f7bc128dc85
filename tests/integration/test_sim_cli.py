"""The command C{qvd-sim}, as an administrator calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.test_sim_run import DAY

SHORT = DAY.replace('end = "09:00"', 'end = "08:56:30"').replace('at = "08:57"', 'at = "08:56"')
MAIN = "import sys; from qvd.sim.cli import main; sys.exit(main())"


def qvd_sim(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def day(tmp_path: Path) -> Path:
    file = tmp_path / "day.toml"
    file.write_text(SHORT)
    return file


def test_run(day: Path, tmp_path: Path) -> None:
    picture, log = tmp_path / "day.svg", tmp_path / "nodes.log"
    ended = qvd_sim("run", day, "--json", "--plot", picture, "--log", log, "--folder", tmp_path / "kept", "--seed", 6)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout.splitlines()[-1])
    assert (document["violations"], document["seed"], document["logins"]) == (0, 6, 20)
    assert document["desktops"] > 0
    assert "Time to desktop:" in ended.stdout
    assert "kill of n2" in ended.stderr
    assert ElementTree.parse(picture).getroot() is not None
    assert "start claimed" in log.read_text()
    assert (tmp_path / "kept/postgres/data/PG_VERSION").exists()


def test_report_to_a_file(day: Path, tmp_path: Path) -> None:
    day.write_text(SHORT[: SHORT.index("[[faults]]")].replace("08:56:30", "08:56:05"))
    ended = qvd_sim("run", day, "--report", tmp_path / "report", "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert "Violations:" in (tmp_path / "report").read_text()


def test_check(day: Path) -> None:
    ended = qvd_sim("check", day)
    assert (ended.returncode, ended.stdout) == (0, "three nodes, one of which dies: 3 nodes, 20 VMs\n")
    day.write_text(SHORT + "\n[failures]\nboot = 5")
    ended = qvd_sim("check", day)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"qvd-sim: {day}: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--plot", "day.png"), "must end in .svg"),
        (("--dsn", "host=127.0.0.1 port=1 dbname=none"), "cannot be reached"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(day: Path, arguments: tuple[str, str], sentence: str) -> None:
    ended = qvd_sim("run", day, *arguments)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
