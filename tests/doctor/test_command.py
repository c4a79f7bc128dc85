"""The command: what it takes, what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from qvd.doctor import command as module
from qvd.doctor.catalogue import IDS
from qvd.doctor.command import command
from qvd.doctor.findings import About, failure
from qvd.doctor.report import CLEAN, FAILED, UNKNOWN, WARNED, Report
from tests.doctor.world import Setup, certificate


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def files(setup: Setup) -> list[str]:
    setup.look(["settings"])
    return ["--node", str(setup.folder / "node.conf"), "--admin", str(setup.folder / "admin.conf")]


def test_the_status_is_that_of_the_worst(setup: Setup) -> None:
    words = files(setup)
    assert run(*words, "--only", "tls").exit_code == CLEAN
    certificate(setup.tls, days=5)
    soon = run(*words, "--only", "tls")
    assert soon.exit_code == WARNED
    assert soon.output.startswith("WARNING  tls.days")
    assert "Mend: get a new one" in soon.output
    certificate(setup.tls, days=-1)
    assert run(*words, "--only", "tls").exit_code == FAILED


def test_json_holds_what_the_text_says(setup: Setup) -> None:
    done = run(*files(setup), "--json", "--only", "tls", "--only", "database.schema")
    document = json.loads(done.output)
    assert document["result"] == "ok"
    checks = {each["check"] for each in document["findings"]}
    assert {each.partition(".")[0] for each in checks} == {"tls", "database"}
    assert "database.schema" in checks and "database.rights" not in checks
    assert sum(document["counts"].values()) == len(document["findings"])


def test_what_does_not_apply_is_told_on_request(setup: Setup) -> None:
    words = [*files(setup), "--only", "lxc"]
    assert "the driver is sandbox" not in run(*words).output
    assert "the driver is sandbox" in run(*words, "--all").output


def test_a_folder_like_the_demos(setup: Setup) -> None:
    files(setup)
    assert run("--demo", str(setup.folder), "--only", "settings").exit_code == CLEAN


def test_every_check_is_listed() -> None:
    listed = [line.split()[0] for line in run("--list").output.splitlines()]
    assert listed == list(IDS)


class Session:
    """As the program C{qvd} has one."""

    def call(self, method: str, path: str) -> Session:
        assert (method, path) == ("GET", "/doctor")
        findings = Report((failure("it", "It is broken", "mend it").of("x.y", About.ADMIN, 0.1),))
        self.body = {**findings.document(), "age": 1.5}
        return self


def test_the_administrations_own_findings() -> None:
    done = CliRunner().invoke(command, ["--server"], obj=Session())
    assert done.exit_code == FAILED
    assert done.output.startswith("FAILURE  x.y  it\n         It is broken.\n         Mend: mend it\n")
    alone = run("--server")
    assert alone.exit_code == UNKNOWN and "qvd doctor --server" in alone.output


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--nonsense"], ["word"]])
def test_wrong_usage_has_a_status_of_its_own(words: list[str], setup: Setup) -> None:
    assert run(*files(setup), *words).exit_code == UNKNOWN


def test_nothing_to_look_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "FILES", {about: tmp_path / path.name for about, path in module.FILES.items()})
    done = run()
    assert done.exit_code == UNKNOWN
    assert "--node or --admin" in done.output
