# -*- test-case-name: tests.unit.test_client_options -*-
"""
The command line, the demo's file, and the ways in for a password.

A password is never an argument: all users of a machine see those.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from qvd.client.errors import MEANINGS, ClientError, Exit
from qvd.model.secret import Secret
from qvd.protocols.l7r import BasicCredentials, BearerCredentials

COMMANDS = {
    "list": "show the virtual machines",
    "connect": "show the desktop of one, which is started first where needed",
    "stop": "stop one",
    "ping": "ask whether the server serves; takes no login",
}
DEFAULT_PORT = 8443
MOST_SECRET = 4096
DEMO_TEXTS = ("host", "tenant", "user", "password", "ca_file")

Ask = Callable[[str], str]


@frozen
class Options:
    """What to do.

    @ivar credentials: L{None} for a ping.
    @ivar desktop: parameters of C{connect_to_vm}.
    @ivar show: False to leave as soon as the server has switched.
    """

    command: str
    host: str
    port: int
    credentials: BasicCredentials | BearerCredentials | None
    vm: str | None
    ca_file: Path | None
    pin: bytes | None
    seconds: float
    desktop: Mapping[str, str]
    json: bool
    show: bool


@frozen
class Defaults:
    """What the demo's file says; without a demo nothing."""

    host: str | None = None
    port: int = DEFAULT_PORT
    tenant: str | None = None
    user: str | None = None
    password: Secret | None = None
    vm: str | None = None
    ca_file: Path | None = None


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)


def _pin(text: str) -> bytes:
    digits = text.replace(":", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise argparse.ArgumentTypeError("a SHA-256 fingerprint has 64 hexadecimal digits")
    return bytes.fromhex(digits)


def _geometry(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1024x768")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The grammar."""
    commands = "\n".join(f"  {name:8} {meaning}" for name, meaning in COMMANDS.items())
    statuses = "\n".join(f"  {exit:3}  {meaning}" for exit, meaning in MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="qvd-client",
        description=f"Use virtual desktops of a QVD server.\n\ncommands:\n{commands}",
        epilog=f"The password comes from --password-file, from the variable QVD_PASSWORD or from the terminal.\n\n"
        f"exit status:\n{statuses}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("command", choices=tuple(COMMANDS))
    add("--host", metavar="H", help="name or address of the server")
    add("--port", metavar="P", type=_port, help=f"default {DEFAULT_PORT}")
    add("--user", metavar="U", help="login; it may hold the tenant: user@tenant")
    add("--tenant", metavar="T")
    add("--vm", metavar="ID|NAME", help="may be left out where there is only one")
    add("--json", action="store_true", help="results and errors as JSON on standard output")
    add(
        "--demo", metavar="DIR", nargs="?", const="", help="server and login of a demo (default $QVD_DEMO_DIR or .demo)"
    )
    add("--ca", metavar="FILE", type=Path, help="trust these authorities (PEM) instead of the system's")
    add("--pin", metavar="SHA256", type=_pin, help="trust only the certificate with this fingerprint")
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument("--password-file", metavar="F", type=Path)
    secrets.add_argument("--token-file", metavar="F", type=Path, help="log in with a bearer token")
    add("--geometry", metavar="WxH", type=_geometry, default="1024x768")
    add("--fullscreen", action="store_true")
    add("--link", default="adsl", help="modem, isdn, adsl, wan, lan or local")
    add("--keyboard", metavar="MODEL/LAYOUT", default="pc105/us")
    add("--timeout", metavar="S", type=_seconds, default=300.0, help="longest silence of the server, default 300")
    add("--no-nx", "--print-session", action="store_true", help="leave as soon as the desktop is there")
    return parser


def parse(arguments: list[str], environment: Mapping[str, str], ask: Ask) -> Options:
    """@param ask: prompts for a password.
    @raise ClientError: something is missing or wrong.
    @raise SystemExit: argparse has said what is wrong.
    """
    given = build_parser().parse_args(arguments)
    defaults = Defaults() if given.demo is None else read_demo(demo_folder(given.demo, environment))
    host = given.host or defaults.host
    if not host:
        raise ClientError(Exit.USAGE, "No server is given: use --host or --demo")
    return Options(
        command=given.command,
        host=host,
        port=given.port or defaults.port,
        credentials=None if given.command == "ping" else _credentials(given, defaults, environment, ask),
        vm=given.vm or defaults.vm,
        ca_file=given.ca or defaults.ca_file,
        pin=given.pin,
        seconds=given.timeout,
        desktop=desktop_parameters(given),
        json=given.json,
        show=not given.no_nx,
    )


def desktop_parameters(given: argparse.Namespace) -> Mapping[str, str]:
    """What clients in the field send, with all that we lack switched off."""
    return {
        "qvd.client.type": "qvd-client",
        "qvd.client.keyboard": given.keyboard,
        "qvd.client.os": "darwin" if sys.platform == "darwin" else "linux",
        "qvd.client.link": given.link,
        "qvd.client.geometry": given.geometry,
        "qvd.client.fullscreen": "1" if given.fullscreen else "0",
        "qvd.client.nxagent.extra_args": "",
        "qvd.client.printing.enabled": "0",
        "qvd.client.usb.enabled": "0",
        "qvd.client.usb.implementation": "",
        "qvd.client.audio.compression.enable": "0",
    }


def demo_folder(given: str, environment: Mapping[str, str]) -> Path:
    """Where the demo lives."""
    return Path(given or environment.get("QVD_DEMO_DIR") or ".demo")


def read_demo(folder: Path) -> Defaults:
    """@raise ClientError: no demo has been there."""
    path = folder / "credentials.json"
    try:
        document = json.loads(path.read_bytes())
    except OSError:
        raise ClientError(Exit.USAGE, f"{path} cannot be read: has the demo been started?") from None
    except ValueError:
        document = None
    if not _is_demo(document):
        raise ClientError(Exit.USAGE, f"{path} does not hold the credentials of a demo")
    return Defaults(
        host=document["host"],
        port=document["port"],
        tenant=document["tenant"],
        user=document["user"],
        password=Secret(document["password"]),
        vm=str(document["vm_id"]),
        ca_file=Path(document["ca_file"]),
    )


def _is_demo(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and all(isinstance(document.get(name), str) for name in DEMO_TEXTS)
        and all(isinstance(document.get(name), int) for name in ("port", "vm_id"))
    )


def _credentials(
    given: argparse.Namespace, defaults: Defaults, environment: Mapping[str, str], ask: Ask
) -> BasicCredentials | BearerCredentials:
    if given.token_file is not None:
        return BearerCredentials(read_secret(given.token_file))
    user = given.user or defaults.user
    if not user:
        raise ClientError(Exit.USAGE, "No user is given: use --user")
    tenant = given.tenant or (None if given.user else defaults.tenant)
    login = f"{user}@{tenant}" if tenant else user
    if ":" in login or not login.isprintable():
        raise ClientError(Exit.USAGE, "A login holds no colon and no control characters")
    return BasicCredentials(login, _password(given, login, defaults, environment, ask))


def _password(
    given: argparse.Namespace, login: str, defaults: Defaults, environment: Mapping[str, str], ask: Ask
) -> Secret:
    if given.password_file is not None:
        return read_secret(given.password_file)
    if defaults.password is not None and given.user is None:
        return defaults.password
    if "QVD_PASSWORD" in environment:
        return Secret(environment["QVD_PASSWORD"])
    try:
        return Secret(ask(f"Password of {login}: "))
    except EOFError:
        raise ClientError(Exit.USAGE, "No password is given: use --password-file or QVD_PASSWORD") from None


def read_secret(path: Path) -> Secret:
    """The first line of a file.

    @raise ClientError: it cannot be read, or is empty.
    """
    try:
        with open(path, "rb") as file:
            line = file.readline(MOST_SECRET)
    except OSError as error:
        raise ClientError(Exit.USAGE, f"{path} cannot be read: {error.strerror}") from None
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not text:
        raise ClientError(Exit.USAGE, f"{path} is empty")
    return Secret(text)
