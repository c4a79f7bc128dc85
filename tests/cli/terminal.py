"""Somebody who types C{qvd}: a run of the program in this process, beside the reactor."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from qvd.cli.main import run
from qvd.cli.output import Screen
from qvd.cli.session import Options, Session


class Tty(StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@frozen
class Run:
    """What came of a run."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@define
class Terminal:
    """@ivar options: as the environment has them.
    @ivar typed: what the next run reads from standard input, and whether a terminal is there.
    """

    options: Options
    answers: list[str] = field(factory=list)
    interactive: bool = False

    def start(self, *args: str, stdin: str = "") -> Deferred[Run]:
        """Run C{qvd} with these arguments."""
        return deferToThread(self.run, *args, stdin=stdin)

    def run(self, *args: str, stdin: str = "") -> Run:
        kind = Tty if self.interactive else StringIO
        out, err = StringIO(), kind()
        session = TypedSession(options=self.options, screen=Screen(out, err), stdin=kind(stdin))
        session.answers = self.answers
        session.pause = lambda seconds: None
        status = run(args, session)
        return Run(status, out.getvalue(), err.getvalue())

    def at(self, **changes: Any) -> Terminal:
        """Another one, with other options."""
        return evolve(self, options=evolve(self.options, **changes))


class TypedSession(Session):
    """One whose questions are answered by what the test says."""

    answers: list[str]

    def ask_secret(self, what: str) -> str:
        if not self.interactive:
            return super().ask_secret(what)
        self.screen.say(f"{what}:")
        return self.answers.pop(0)

    def ask(self, question: str) -> str:
        if not self.interactive:
            return super().ask(question)
        self.screen.say(f"{question}:")
        return self.answers.pop(0)

    def confirm(self, question: str) -> None:
        if self.yes or not self.interactive:
            super().confirm(question)
            return
        self.screen.say(question)
        if self.answers.pop(0) != "y":
            from qvd.cli.exits import CommandError

            raise CommandError("Nothing was done.")


def terminal_of(folder: Path, url: str, ca: Path, token: str) -> Terminal:
    """One with a profile that calls a server."""
    place = folder / "cli.toml"
    place.write_text(f'[profiles.default]\nurl = "{url}"\nca = "{ca}"\ntoken = "{token}"\n')
    place.chmod(0o600)
    return Terminal(Options(config=place))
