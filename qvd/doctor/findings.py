# -*- test-case-name: tests.doctor.test_report -*-
"""What a check says: a value for each thing that it looked at."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import asdict, evolve, frozen


class Result(Enum):
    """How bad it is; the order is that of badness."""

    NOT_APPLICABLE = "not-applicable"
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILURE = "failure"

    @property
    def badness(self) -> int:
        return list(Result).index(self)


class About(Enum):
    """Whose trouble it is."""

    NODE = "node"
    ADMIN = "admin"
    INSTALLATION = "installation"


@frozen
class Finding:
    """One thing that was looked at.

    @ivar looked_at: in words that tell it from others of the same check.
    @ivar sentence: what was found; of what does not apply: why.
    @ivar mend: what to do; empty where there is nothing to do.
    @ivar check: id of the check, as in C{docs/doctor.md}.
    @ivar seconds: that the check had taken by then.
    """

    result: Result
    looked_at: str
    sentence: str
    mend: str = ""
    check: str = ""
    about: About = About.INSTALLATION
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return self.result.badness > Result.NOTE.badness

    def of(self, check: str, about: About, seconds: float) -> Finding:
        """The same, as said by a check."""
        return evolve(self, check=check, about=about, seconds=round(seconds, 3))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self, value_serializer=lambda _, __, value: value.value if isinstance(value, Enum) else value)


def finding_of(document: Mapping[str, Any]) -> Finding:
    """What L{Finding.document} made."""
    known = {**document, "result": Result(document["result"]), "about": About(document["about"])}
    return Finding(**known)


def ok(looked_at: str, sentence: str) -> Finding:
    """It is as it should be."""
    return Finding(Result.OK, looked_at, sentence)


def note(looked_at: str, sentence: str, mend: str = "") -> Finding:
    """Nothing is wrong, and somebody may want to know."""
    return Finding(Result.NOTE, looked_at, sentence, mend)


def warning(looked_at: str, sentence: str, mend: str) -> Finding:
    """It works, and will not for long, or not for everybody."""
    return Finding(Result.WARNING, looked_at, sentence, mend)


def failure(looked_at: str, sentence: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(Result.FAILURE, looked_at, sentence, mend)


def not_applicable(looked_at: str, reason: str) -> Finding:
    """There is nothing to look at here."""
    return Finding(Result.NOT_APPLICABLE, looked_at, reason)
