"""The keys of the administration's settings, and their sample."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qvd.model.errors import SettingsError
from qvd.model.settings import REQUIRED, Key, check, flatten
from qvd.model.settings_admin import ADMIN_KEYS, parse_admin

SAMPLE = Path(__file__).resolve().parents[2] / "etc/qvd/admin.conf"
NEEDED: dict[str, Any] = {"admin.tls.cert": "c", "admin.tls.key": "k"}


@pytest.mark.parametrize("key", ADMIN_KEYS, ids=lambda key: key.name)
def test_defaults_obey_their_own_rules(key: Key) -> None:
    assert key.doc
    if key.default is not REQUIRED:
        given: Any = key.default.reveal() if key.secret else key.default
        assert check(key, given, "default") == key.default


def test_keys_are_unique_and_none_is_a_table_of_another() -> None:
    names = [key.name for key in ADMIN_KEYS]
    assert len(set(names)) == len(names)
    assert not [name for name in names for other in names if other.startswith(f"{name}.")]


def test_secrets_are_secret() -> None:
    assert [key.name for key in ADMIN_KEYS if "password" in key.name and not key.secret] == []


def test_the_sample_shows_each_key_with_its_default() -> None:
    lines = (line.removeprefix("# ") for line in SAMPLE.read_text().splitlines())
    shown = dict(flatten(tomllib.loads("\n".join(line for line in lines if " = " in line))))
    assert list(shown) == [key.name for key in ADMIN_KEYS]
    defaults = {key.name: key.default.reveal() if key.secret else key.default for key in ADMIN_KEYS}
    assert {name for name in shown if shown[name] != defaults[name]} == NEEDED.keys()


def test_the_sample_explains_each_key() -> None:
    text = SAMPLE.read_text()
    for key in ADMIN_KEYS:
        explained = re.escape(f"{key.doc[0].upper()}{key.doc[1:]}")
        assert re.search(rf"^# {explained}\.\n(# )?{re.escape(key.name)} = ", text, re.M)


def test_the_sample_is_valid() -> None:
    assert parse_admin(tomllib.loads(SAMPLE.read_text()), "admin.conf").number("admin.port") == 9443


def test_a_log_is_text_or_json() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_admin({**NEEDED, "log.format": "xml"}, "admin.conf")
    assert caught.value.text == "admin.conf: log.format: it is text or json"
