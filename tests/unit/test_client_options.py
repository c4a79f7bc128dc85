"""L{qvd.client.options}."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qvd.client.errors import MEANINGS, ClientError, Exit
from qvd.client.options import Options, build_parser, parse
from qvd.model.secret import Secret
from qvd.protocols.l7r import MANDATORY, BasicCredentials, BearerCredentials

LOGIN = ["--host", "broker", "--user", "alice"]
ENVIRONMENT = {"QVD_PASSWORD": "from-environment"}


def never(prompt: str) -> str:
    raise AssertionError(f"asked: {prompt}")


def parsed(*arguments: str, environment: dict[str, str] | None = None) -> Options:
    return parse(list(arguments), ENVIRONMENT if environment is None else environment, never)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    document = {
        "host": "localhost",
        "port": 8444,
        "tenant": "demo",
        "user": "bob",
        "password": "generated",
        "vm_id": 3,
        "vm_name": "desktop",
        "ca_file": "/ca.pem",
    }
    (tmp_path / "credentials.json").write_text(json.dumps(document))
    return tmp_path


def test_defaults() -> None:
    options = parsed("list", *LOGIN)
    assert options.credentials == BasicCredentials("alice", Secret("from-environment"))
    assert (options.host, options.port, options.seconds, options.vm) == ("broker", 8443, 300.0, None)
    assert (options.show, options.json, options.ca_file, options.pin) == (True, False, None, None)


def test_password_is_in_no_repr() -> None:
    assert "from-environment" not in repr(parsed("list", *LOGIN))


def test_password_is_no_argument() -> None:
    options = {option for action in build_parser()._actions for option in action.option_strings}
    assert {option for option in options if "pass" in option or "token" in option} == {
        "--password-file",
        "--token-file",
    }


def test_help_lists_the_statuses() -> None:
    text = build_parser().format_help()
    for exit, meaning in MEANINGS.items():
        assert f"{exit:5}  {meaning}\n" in text


def test_tenant() -> None:
    for arguments in (["--tenant", "acme"], ["--user", "alice@acme"]):
        credentials = parsed("list", *LOGIN, *arguments).credentials
        assert isinstance(credentials, BasicCredentials)
        assert credentials.login == "alice@acme"


def test_desktop_parameters() -> None:
    options = parsed(
        "connect", *LOGIN, "--geometry", "800x600", "--fullscreen", "--link", "lan", "--keyboard", "pc104/es"
    )
    assert set(MANDATORY) <= set(options.desktop)
    assert options.desktop["qvd.client.geometry"] == "800x600"
    assert options.desktop["qvd.client.fullscreen"] == "1"
    assert options.desktop["qvd.client.link"] == "lan"
    assert options.desktop["qvd.client.keyboard"] == "pc104/es"


def test_pin_with_and_without_colons() -> None:
    for text in ("AB" * 32, ":".join(["ab"] * 32)):
        assert parsed("ping", "--host", "broker", "--pin", text).pin == b"\xab" * 32


def test_ping_takes_no_login() -> None:
    assert parsed("ping", "--host", "broker").credentials is None


def test_password_file_goes_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"gr\xf6n \nsecond line\n")
    credentials = parsed("list", *LOGIN, "--password-file", str(tmp_path / "password")).credentials
    assert isinstance(credentials, BasicCredentials)
    assert credentials.password.reveal() == "gr\udcf6n "


def test_token_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    credentials = parsed("list", "--host", "broker", "--token-file", str(tmp_path / "token")).credentials
    assert credentials == BearerCredentials(Secret("token"))


def test_prompt_is_the_last_resort() -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "typed"

    options = parse(["list", *LOGIN], {}, ask)
    assert options.credentials == BasicCredentials("alice", Secret("typed"))
    assert prompts == ["Password of alice: "]


def test_nobody_to_ask() -> None:
    def ask(prompt: str) -> str:
        raise EOFError

    with pytest.raises(ClientError, match="No password is given") as raised:
        parse(["list", *LOGIN], {}, ask)
    assert raised.value.exit is Exit.USAGE


def test_demo(demo: Path) -> None:
    for options in (
        parsed("connect", "--demo", str(demo)),
        parsed("connect", "--demo", environment={"QVD_DEMO_DIR": str(demo)}),
    ):
        assert options.credentials == BasicCredentials("bob@demo", Secret("generated"))
        assert (options.host, options.port, options.vm) == ("localhost", 8444, "3")
        assert options.ca_file == Path("/ca.pem")


def test_what_is_given_goes_before_the_demo(demo: Path) -> None:
    """Somebody else's login has neither the demo's tenant nor its password."""
    options = parsed("connect", "--demo", str(demo), "--user", "alice", "--port", "1", "--vm", "x", "--ca", "mine")
    assert options.credentials == BasicCredentials("alice", Secret("from-environment"))
    assert (options.port, options.vm, options.ca_file) == (1, "x", Path("mine"))


@pytest.mark.parametrize("text", ["", "[]", '{"host": "localhost"}', '{"host": 1, "port": "x"}'])
def test_broken_demo(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(ClientError, match="does not hold the credentials") as raised:
        parsed("list", "--demo", str(tmp_path))
    assert raised.value.exit is Exit.USAGE


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list"], "No server"),
        (["list", "--host", "broker"], "No user"),
        (["list", "--host", "broker", "--user", "a:b"], "no colon"),
        (["list", "--host", "broker", "--user", "a\nb"], "no control"),
        (["list", "--demo", "/nonexistent"], "has the demo been started"),
        ([*LOGIN, "list", "--password-file", "/nonexistent"], "cannot be read"),
        ([*LOGIN, "list", "--password-file", "/dev/null"], "is empty"),
    ],
)
def test_what_is_missing(arguments: list[str], text: str) -> None:
    with pytest.raises(ClientError, match=text) as raised:
        parsed(*arguments)
    assert raised.value.exit is Exit.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["delete"],
        ["list", "--port", "0"],
        ["list", "--port", "65536"],
        ["list", "--pin", "abc"],
        ["list", "--geometry", "big"],
        ["list", "--timeout", "0"],
        ["list", "--timeout", "nan"],
        ["list", "--pass", "x"],
        ["list", "--password-file", "a", "--token-file", "b"],
    ],
)
def test_wrong_command_lines(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as raised:
        parsed(*arguments)
    assert raised.value.code == 2
    assert "usage: qvd-client" in capsys.readouterr().err
