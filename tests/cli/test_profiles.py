"""The file of profiles: readable for its owner alone, and what is written is read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qvd.cli.exits import CommandError
from qvd.cli.profiles import FIELDS, Profile, Profiles

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CANARY = "tok-canary"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), TEXTS))
def test_what_is_written_is_read(tmp_path: Path, values: dict[str, str]) -> None:
    path = tmp_path / "deep" / "cli.toml"
    profiles = Profiles(path, "main")
    profiles.put("main", Profile(**values))
    again = Profiles.read(path)
    assert (again.current, again.all) == ("main", {"main": Profile(**values)})
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["cli.toml"]


def test_secrets_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cli.toml"
    path.write_text(f'[profiles.a]\ntoken = "{CANARY}"\n')
    path.chmod(0o640)
    with pytest.raises(CommandError, match="chmod 600"):
        Profiles.read(path)
    path.write_text('[profiles.a]\nurl = "https://a"\n')
    assert Profiles.read(path).get("a").url == "https://a"


@pytest.mark.parametrize(
    "text",
    [
        f'[profiles.a]\ntoken = "{CANARY}\n',
        f'[profiles.a]\nwrong = "{CANARY}"\n',
        "[profiles.a]\nurl = 1\n",
        "profiles = 1\n",
        "[profiles.'a b']\nurl = ''\n",
    ],
)
def test_mistakes_are_told_without_what_may_be_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cli.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(CommandError) as caught:
        Profiles.read(path)
    assert CANARY not in caught.value.text


def test_nothing_is_told_of_secrets_by_accident() -> None:
    assert CANARY not in repr(Profile(token=CANARY, session=CANARY, csrf=CANARY))
    assert Profile(url="u", token=CANARY, token_id="1").without_secrets() == Profile(url="u")


def test_a_profile_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        Profiles(tmp_path / "cli.toml").put("a b", Profile())
