"""L{qvd.hkd.cli}: what it says without a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.hkd import cli
from qvd.model.errors import DatabaseUnavailable, NotFound, SettingsError


def test_a_wrong_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.conf"
    config.write_text("surprise = 1")
    assert cli.main(["--config", str(config), "explain", "1"]) == cli.USAGE
    assert f"qvd-node: {config}: surprise: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["explain"], ["explain", "desktop"], ["destroy", "1"]])
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == cli.USAGE
    assert "usage: qvd-node" in capsys.readouterr().err


def test_each_kind_of_error_has_its_status() -> None:
    assert cli.status_of(DatabaseUnavailable("away")) == cli.UNREACHABLE
    assert cli.status_of(SettingsError("wrong")) == cli.USAGE
    assert cli.status_of(NotFound("no such VM")) == cli.ABSENT
