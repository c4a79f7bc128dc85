"""L{qvd.hkd.cli}: what it says without a database."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from qvd.hkd import cli
from qvd.hkd.console.enrol import read_token
from qvd.model.errors import DatabaseUnavailable, NotFound, SettingsError
from qvd.model.secret import Secret


def test_a_wrong_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.conf"
    config.write_text("surprise = 1")
    assert cli.main(["--config", str(config), "explain", "1"]) == cli.USAGE
    assert f"qvd-node: {config}: surprise: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["explain"],
        ["explain", "desktop"],
        ["reset"],
        ["destroy", "1"],
        ["block"],
        ["drain", "node1", "node2"],
        ["enrol"],
        # ps shows it to everybody.
        ["enrol", "--token", "s3cret"],
        ["enrol", "--token", "-", "--token-file", "f"],
    ],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == cli.USAGE
    assert "usage: qvd-node" in capsys.readouterr().err


def test_each_kind_of_error_has_its_status() -> None:
    assert cli.status_of(DatabaseUnavailable("away")) == cli.UNREACHABLE
    assert cli.status_of(SettingsError("wrong")) == cli.USAGE
    assert cli.status_of(NotFound("no such VM")) == cli.ABSENT


def test_a_token_comes_from_a_file_or_the_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert read_token(file) == Secret("s3cret")
    monkeypatch.setattr("sys.stdin", StringIO("an0ther\n"))
    assert read_token(None) == Secret("an0ther")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_no_token(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file)):
        read_token(file)
