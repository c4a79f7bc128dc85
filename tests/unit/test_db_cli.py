"""L{qvd.db.cli}: what it says without a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.db import cli


@pytest.mark.parametrize("command", ["init", "migrate", "status"])
def test_wrong_connection_string(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """libpq repeats what it does not understand, which may hold a password."""
    assert cli.main([command, "--dsn", "qvd:tr0ub4dor"]) == 2
    shown = capsys.readouterr()
    assert "tr0ub4dor" not in shown.out + shown.err
    assert "connection string" in shown.err


@pytest.mark.parametrize("text", ["nodename = ", "surprise = 1", 'nodename = "n"'])
def test_wrong_configuration(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.conf"
    config.write_text(text)
    assert cli.main(["status", "--config", str(config)]) == 2
    assert str(config) in capsys.readouterr().err


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", str(tmp_path / "none.conf")]) == 2
    assert "none.conf: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["destroy"], ["init", "--dsn", "a=b", "--config", "c"]])
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "usage: qvd-db" in capsys.readouterr().err
