# -*- test-case-name: tests.unit.test_model_settings -*-
"""
Every configuration key: name, type, default, meaning, secret or not.

A file is TOML; QVD's dotted names are valid TOML keys (C{l7r.port = 8443}). An unknown key or a value of the wrong
type stops the start with a sentence that names the file and the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, TypeVar

from attrs import frozen

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret

T = TypeVar("T")

REQUIRED: Any = object()
"""Default of a key that has none: the file must give it."""


@frozen
class Key:
    """One configuration key.

    @ivar kind: C{str}, C{int}, C{float}, C{bool} or L{Secret}; a whole number passes for a C{float}.
    @ivar minimum: least allowed number, for numbers.
    """

    name: str
    kind: type
    default: Any
    doc: str
    minimum: float | None = None

    @property
    def secret(self) -> bool:
        return self.kind is Secret


@frozen
class Settings:
    """The checked values of a file over the defaults of its keys."""

    source: str
    values: Mapping[str, Any]

    def get(self, name: str, kind: type[T]) -> T:
        """The value of C{name}; C{kind} repeats the declared type for the type checker."""
        value = self.values[name]
        assert isinstance(value, kind), name
        return value

    def text(self, name: str) -> str:
        return self.get(name, str)

    def number(self, name: str) -> int:
        return self.get(name, int)

    def seconds(self, name: str) -> float:
        return float(self.get(name, float))

    def flag(self, name: str) -> bool:
        return self.get(name, bool)

    def secret(self, name: str) -> Secret:
        return self.get(name, Secret)


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested TOML tables as dotted keys."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check(key: Key, value: object, source: str) -> Any:
    """The value as its key's type, or L{SettingsError}."""
    wanted = str if key.secret else key.kind
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (wanted in (int, float) and isinstance(value, bool)):
        raise SettingsError(f"{source}: {key.name}: expected {wanted.__name__}, found {type(value).__name__}")
    if isinstance(value, float) and not isfinite(value):
        raise SettingsError(f"{source}: {key.name}: {value} is no number of anything")
    if key.minimum is not None and isinstance(value, (int, float)) and value < key.minimum:
        raise SettingsError(f"{source}: {key.name}: {value} is less than {key.minimum:g}")
    return Secret(value) if key.secret and isinstance(value, str) else value


def parse(table: Mapping[str, Any], keys: tuple[Key, ...], source: str) -> Settings:
    """Check a parsed TOML document against its keys.

    @param source: what the errors name: the file's path.
    @raise SettingsError: an unknown key, a missing one, or a value of the wrong type.
    """
    known = {key.name: key for key in keys}
    given = dict(flatten(table))
    for name in given:
        if name not in known:
            raise SettingsError(f"{source}: {name}: unknown key")
    values: dict[str, Any] = {}
    for key in keys:
        if key.name in given:
            values[key.name] = check(key, given[key.name], source)
        elif key.default is REQUIRED:
            raise SettingsError(f"{source}: {key.name}: missing; it has no default")
        else:
            values[key.name] = key.default
    return Settings(source, values)
