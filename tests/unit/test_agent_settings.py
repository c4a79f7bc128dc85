"""The sample file says what the registry says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from qvd.agent.tap import read_settings
from qvd.model.errors import SettingsError
from qvd.model.settings import flatten, parse
from qvd.model.settings_vma import VMA_KEYS

SAMPLE = Path(__file__).resolve().parents[2] / "etc/qvd/vma.conf"


def uncommented() -> str:
    """The sample with each key put into force."""
    lines = (line.removeprefix("# ") for line in SAMPLE.read_text().splitlines())
    return "\n".join(line for line in lines if " = " in line)


def test_the_sample_shows_each_key_with_its_default() -> None:
    assert dict(flatten(tomllib.loads(uncommented()))) == {key.name: key.default for key in VMA_KEYS}


def test_the_sample_explains_each_key() -> None:
    text = SAMPLE.read_text()
    for key in VMA_KEYS:
        assert f"# {key.doc[0].upper()}{key.doc[1:]}.\n# {key.name} = " in text


def test_the_sample_as_it_is_changes_nothing() -> None:
    assert parse(tomllib.loads(SAMPLE.read_text()), VMA_KEYS, "x").values == parse({}, VMA_KEYS, "x").values


def test_no_key_stands_in_the_way_of_another() -> None:
    # TOML cannot have both a = 1 and a.b = 2.
    names = {key.name for key in VMA_KEYS}
    assert len(names) == len(VMA_KEYS)
    assert [name for name in names if any(other.startswith(f"{name}.") for other in names)] == []


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "vma.conf"
    file.write_text('command.x-session = "/usr/bin/icewm-session"\n')
    assert read_settings(str(file)).text("command.x-session") == "/usr/bin/icewm-session"


@pytest.mark.parametrize(
    ("text", "said"),
    [("vma.audio = 1", "vma.audio: unknown key"), ("a = ", "Invalid value"), ("path.run = 1", "expected str")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "vma.conf"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings(str(file))
    assert caught.value.text.startswith(f"{file}: ")


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        read_settings(str(tmp_path / "vma.conf"))
