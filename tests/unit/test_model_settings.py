"""What a configuration file may say, and what stops the start."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret
from qvd.model.settings import REQUIRED, Key, Settings, check, flatten, parse
from qvd.model.settings_node import NODE_KEYS, parse_node

KEYS = (
    Key("name", str, REQUIRED, "a text"),
    Key("l7r.port", int, 8443, "a number", minimum=0),
    Key("l7r.timeout", float, 2.5, "seconds", minimum=0.1),
    Key("l7r.fast", bool, False, "a flag"),
    Key("database.password", Secret, Secret(""), "a secret"),
)


def read(toml: str, keys: tuple[Key, ...] = KEYS) -> Settings:
    return parse(tomllib.loads(toml), keys, "/etc/qvd/node.conf")


def refusal(toml: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(toml)
    return caught.value.text


def test_defaults_fill_what_is_not_given() -> None:
    settings = read('name = "n1"')
    assert settings.text("name") == "n1"
    assert settings.number("l7r.port") == 8443
    assert settings.seconds("l7r.timeout") == 2.5
    assert settings.flag("l7r.fast") is False
    assert settings.secret("database.password").reveal() == ""
    assert settings.source == "/etc/qvd/node.conf"


@pytest.mark.parametrize("toml", ["l7r.port = 1\nl7r.fast = true", "[l7r]\nport = 1\nfast = true"])
def test_dotted_keys_and_tables_are_the_same(toml: str) -> None:
    settings = read(f'name = "n1"\n{toml}')
    assert settings.number("l7r.port") == 1
    assert settings.flag("l7r.fast") is True


def test_flatten_goes_down_all_the_way() -> None:
    assert dict(flatten({"a": {"b": {"c": 1}, "d": 2}, "e": 3})) == {"a.b.c": 1, "a.d": 2, "e": 3}


def test_a_whole_number_passes_for_seconds() -> None:
    value = read('name = "n1"\nl7r.timeout = 3').seconds("l7r.timeout")
    assert value == 3.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('name = "n1"\nl7r.prot = 1', "l7r.prot"),
        ('name = "n1"\n[l7r.port]\nnumber = 1', "l7r.port.number"),
        ('name = "n1"\nl7r = 1', "l7r"),
    ],
)
def test_an_unknown_key_is_named(toml: str, key: str) -> None:
    assert refusal(toml) == f"/etc/qvd/node.conf: {key}: unknown key"


def test_a_missing_key_is_named() -> None:
    assert refusal("l7r.port = 1") == "/etc/qvd/node.conf: name: missing; it has no default"


@pytest.mark.parametrize(
    ("line", "key", "found"),
    [
        ('l7r.port = "8443"', "l7r.port", "str"),
        ("l7r.port = 1.0", "l7r.port", "float"),
        ("l7r.port = true", "l7r.port", "bool"),
        ("l7r.timeout = true", "l7r.timeout", "bool"),
        ('l7r.timeout = "1"', "l7r.timeout", "str"),
        ("l7r.fast = 1", "l7r.fast", "int"),
        ("l7r.fast = [true]", "l7r.fast", "list"),
        ("database.password = 1", "database.password", "int"),
        ("l7r.port = 2026-01-01", "l7r.port", "date"),
    ],
)
def test_a_wrong_type_is_named(line: str, key: str, found: str) -> None:
    text = refusal(f'name = "n1"\n{line}')
    assert text.startswith(f"/etc/qvd/node.conf: {key}: expected ")
    assert text.endswith(f"found {found}")


@pytest.mark.parametrize("line", ["l7r.port = -1", "l7r.timeout = 0.05", "l7r.timeout = 0"])
def test_a_number_under_the_least_is_refused(line: str) -> None:
    assert "is less than" in refusal(f'name = "n1"\n{line}')


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    assert refusal(f'name = "n1"\nl7r.timeout = {value}').startswith("/etc/qvd/node.conf: l7r.timeout: ")


def test_a_secret_does_not_show() -> None:
    settings = read('name = "n1"\ndatabase.password = "canary"')
    assert settings.secret("database.password").reveal() == "canary"
    assert "canary" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        check(KEYS[4], ["canary"], "file")
    assert "canary" not in str(caught.value)


def test_a_value_is_asked_for_as_what_it_is() -> None:
    with pytest.raises(AssertionError):
        read('name = "n1"').number("name")


@pytest.mark.parametrize("key", NODE_KEYS, ids=lambda key: key.name)
def test_the_nodes_defaults_obey_their_own_rules(key: Key) -> None:
    assert key.doc
    if key.default is REQUIRED:
        return
    given: Any = key.default.reveal() if key.secret else key.default
    assert check(key, given, "default") == key.default
    assert type(check(key, given, "default")) is key.kind


def test_the_nodes_keys_are_unique_and_none_is_a_table_of_another() -> None:
    names = [key.name for key in NODE_KEYS]
    assert len(set(names)) == len(names)
    assert not [name for name in names for other in names if other.startswith(f"{name}.")]


def test_the_node_has_secrets_that_are_secret() -> None:
    assert [key.name for key in NODE_KEYS if "password" in key.name and not key.secret] == []


NEEDED: dict[str, Any] = {"nodename": "n1", "l7r.tls.cert": "c", "l7r.tls.key": "k"}


def test_a_lease_outlives_some_renewals() -> None:
    parse_node({**NEEDED, "hkd.lease": 15.0, "hkd.heartbeat": 5.0}, "node.conf")
    with pytest.raises(SettingsError) as caught:
        parse_node({**NEEDED, "hkd.lease": 15.0, "hkd.heartbeat": 6.0}, "node.conf")
    assert caught.value.text.startswith("node.conf: hkd.heartbeat: 6 s is too long for a lease (hkd.lease) of 15 s")


SAMPLE = Path(__file__).resolve().parents[2] / "etc/qvd/node.conf"


def test_the_nodes_sample_shows_each_key_with_its_default() -> None:
    lines = (line.removeprefix("# ") for line in SAMPLE.read_text().splitlines())
    shown = dict(flatten(tomllib.loads("\n".join(line for line in lines if " = " in line))))
    assert list(shown) == [key.name for key in NODE_KEYS]
    defaults = {key.name: key.default.reveal() if key.secret else key.default for key in NODE_KEYS}
    differing = {name for name in shown if shown[name] != defaults[name]}
    assert differing == {key.name for key in NODE_KEYS if key.default is REQUIRED}


def test_the_nodes_sample_explains_each_key() -> None:
    text = SAMPLE.read_text()
    for key in NODE_KEYS:
        assert re.search(
            rf"^# {re.escape(key.doc[0].upper() + key.doc[1:])}\.\n(# )?{re.escape(key.name)} = ", text, re.M
        )
