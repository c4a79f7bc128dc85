"""Whom a token goes to, and where secrets come from."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from qvd.cli.exits import CommandError
from qvd.cli.output import Screen
from qvd.cli.secrets import read_secret
from qvd.cli.session import Options, Session

HERE, THERE = "https://here.example:9443", "https://there.example:9443"


def session(tmp_path: Path, **options: Any) -> Session:
    place = tmp_path / "cli.toml"
    place.write_text(f'[profiles.default]\nurl = "{HERE}"\ntoken = "own"\n')
    place.chmod(0o600)
    return Session(options=Options(config=place, **options), screen=Screen(StringIO(), StringIO()), stdin=StringIO())


def token_of(session: Session) -> str | None:
    token = session.connect()._token
    return None if token is None else token.reveal()


def test_a_token_goes_to_its_own_server_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_of(session(tmp_path)) == "own"
    assert token_of(session(tmp_path, url=f"{HERE}/")) == "own"
    assert token_of(session(tmp_path, url=THERE)) is None
    monkeypatch.setenv("QVD_TOKEN", "given")
    assert token_of(session(tmp_path, url=THERE)) == "given"
    assert token_of(session(tmp_path)) == "given"


def test_the_environment() -> None:
    found = Options.of_environment({"QVD_URL": HERE, "QVD_TIMEOUT": "5", "QVD_PROFILE": "x", "QVD_CONFIG": "/a"})
    assert (found.url, found.timeout, found.profile, found.config) == (HERE, 5.0, "x", Path("/a"))
    for wrong in ("soon", "0", "nan"):
        with pytest.raises(CommandError, match="QVD_TIMEOUT"):
            Options.of_environment({"QVD_TIMEOUT": wrong})


def test_nobody_is_there_to_answer(tmp_path: Path) -> None:
    made = session(tmp_path)
    for ask in (made.ask, made.ask_secret, made.confirm):
        with pytest.raises(CommandError):
            ask("something")
    made.yes = True
    made.confirm("something")


def test_secrets_of_files(tmp_path: Path) -> None:
    place = tmp_path / "secret"
    place.write_text("first\nsecond\n")
    place.chmod(0o600)
    assert read_secret(str(place), StringIO()) == "first"
    assert read_secret("-", StringIO("typed\r\n")) == "typed"
    with pytest.raises(CommandError):
        read_secret("-", StringIO(""))
    with pytest.raises(CommandError):
        read_secret(str(tmp_path / "none"), StringIO())
