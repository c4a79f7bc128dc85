# -*- test-case-name: tests.cli.test_profiles -*-
"""
Installations that somebody works with, and what proves who they are: a file that nobody else can read. It is TOML, so
that people can write it; what this program writes are texts and nothing else.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from qvd.cli.exits import usage

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT = "default"
SECRETS = ("token", "session", "csrf")


@frozen
class Profile:
    """One installation, and who calls it.

    @ivar ca: file of authorities that are trusted instead of the system's.
    @ivar token: an API token; C{session} and C{csrf}: of a login, instead of one.
    @ivar token_id: by which the API knows the token, to take it away again.
    """

    url: str = ""
    ca: str = ""
    tenant: str = ""
    name: str = ""
    token: str = field(default="", repr=False)
    token_id: str = ""
    expires_at: str = ""
    session: str = field(default="", repr=False)
    csrf: str = field(default="", repr=False)

    def without_secrets(self) -> Profile:
        """As it is after a logout."""
        return evolve(self, token="", token_id="", expires_at="", session="", csrf="")


@define
class Profiles:
    """The file.

    @ivar current: the one that counts where none is named.
    """

    path: Path
    current: str = DEFAULT
    all: dict[str, Profile] = field(factory=dict)

    @classmethod
    def read(cls, path: Path) -> Profiles:
        """@raise CommandError: others can read the secrets in it, or it cannot be understood."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                document = tomllib.load(file)
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise usage(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            # What is wrong is not quoted: it may be a secret.
            raise usage(f"{path} is no TOML") from None
        made = cls(path, str(document.get("current", DEFAULT)), profiles_of(path, document))
        secret = any(getattr(each, name) for each in made.all.values() for name in SECRETS)
        if secret and mode & 0o077:
            raise usage(f"{path} holds secrets, and others can read it: chmod 600 {path}")
        return made

    def get(self, name: str) -> Profile:
        """The one of that name; an empty one, if there is none."""
        return self.all.get(name, Profile())

    def put(self, name: str, profile: Profile) -> None:
        """Write one down."""
        check_name(name)
        self.all[name] = profile
        self.write()

    def write(self) -> None:
        """Replace the file as a whole."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it readable for its owner alone.
            number, name = tempfile.mkstemp(dir=self.path.parent, prefix=".cli-")
            with open(number, "w", encoding="utf-8") as file:
                file.write(self.text())
            os.replace(name, self.path)
        except OSError as error:
            raise usage(f"{self.path} cannot be written: {error.strerror}") from None

    def text(self) -> str:
        """The file's."""
        lines = [f"current = {quoted(self.current)}"]
        for name, profile in self.all.items():
            lines += ["", f"[profiles.{name}]"]
            lines += [f"{key} = {quoted(value)}" for key in FIELDS if (value := getattr(profile, key))]
        return "\n".join(lines) + "\n"


def check_name(name: str) -> None:
    """@raise CommandError: it is no name for a profile."""
    if NAME.fullmatch(name) is None:
        raise usage(f"A profile is named with letters, digits, - and _, not {name!r}")


FIELDS = ("url", "ca", "tenant", "name", "token", "token_id", "expires_at", "session", "csrf")
ESCAPES = {'"': '\\"', "\\": "\\\\"}


def profiles_of(path: Path, document: Mapping[str, Any]) -> dict[str, Profile]:
    """@raise CommandError: something in it is unknown."""
    found = {}
    tables = document.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise usage(f"{path}: profiles are tables, [profiles.NAME]")
    for name, table in tables.items():
        if NAME.fullmatch(name) is None:
            raise usage(f"{path}: a profile is named with letters, digits, - and _, not {name!r}")
        for key, value in table.items():
            if key not in FIELDS:
                raise usage(f"{path}: profile {name}: {key!r} is unknown; known are {', '.join(FIELDS)}")
            if not isinstance(value, str):
                raise usage(f"{path}: profile {name}: {key} is a text")
        found[name] = Profile(**table)
    return found


def quoted(text: str) -> str:
    """A TOML basic string (TOML 1.0.0, "String")."""
    letters = (ESCAPES.get(letter, letter) if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)
    return f'"{"".join(letters)}"'


def profiles_path() -> Path:
    """Where the file is, unless somebody says otherwise (XDG Base Directory Specification)."""
    return home_of("XDG_CONFIG_HOME", ".config") / "cli.toml"


def cache_path() -> Path:
    """Where descriptions of APIs are kept."""
    return home_of("XDG_CACHE_HOME", ".cache")


def state_path() -> Path:
    """Where the shell's history is."""
    return home_of("XDG_STATE_HOME", ".local/state")


def home_of(variable: str, otherwise: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if base.startswith("/") else Path.home() / otherwise) / "qvd"
