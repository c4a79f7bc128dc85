# -*- test-case-name: tests.unit.test_model_secret -*-
"""A text that must not show in logs or tracebacks."""

from __future__ import annotations

import hmac


class Secret:
    """A password, token or key. Its C{repr} and C{str} are stars; L{reveal} is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for the wire or the hash function, never for a log."""
        return self._value

    def matches(self, other: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._value.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))

    def __repr__(self) -> str:
        return "*****"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash(self._value)
