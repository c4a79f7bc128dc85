"""Each operation of the API has a command, and each command a help that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest

from qvd.cli import extras
from qvd.cli.derived import Derived
from qvd.cli.main import run
from qvd.cli.naming import ALSO, PLACES, commands
from qvd.cli.output import Screen
from qvd.cli.program import program
from qvd.cli.session import Options, Session
from tests.cli.described import Offline, description, document, offline


def find(session: Offline, *words: str) -> click.Command:
    """The command that these words call."""
    context = program.make_context("qvd", ["--", "x"], obj=session)
    found: click.Command = program
    for word in words:
        assert isinstance(found, click.Group)
        command = found.get_command(context, word)
        assert command is not None, words
        context = click.Context(command, parent=context, info_name=word)
        found = command
    return found


def test_each_operation_has_a_command_of_its_own() -> None:
    """Compared with the OpenAPI document, and not with what the command line makes of it."""
    session = offline()
    known = commands(description())
    by_place = {(each.method, each.path): words for words, each in known.items()}
    actions = []
    for path, item in document()["paths"].items():
        for method, told in item.items():
            words = by_place[method.upper(), path.removeprefix("/api/v1")]
            command = find(session, *words)
            actions.append(told["x-qvd-action"])
            if told["x-qvd-action"] in PLACES:
                assert extras.find(*words) is command
            else:
                assert isinstance(command, Derived)
                assert (command.operation.method, command.operation.path) == (method.upper(), path[7:])
    assert len(known) == len(by_place) == len(actions)


def test_other_words_for_the_same() -> None:
    session = offline()
    for words, meant in ALSO.items():
        other, plain = find(session, *words), find(session, *meant)
        assert isinstance(other, Derived) and isinstance(plain, Derived)
        assert other.operation is plain.operation
    for words, action in ((("admin", "list"), "administrator.list"), (("images", "show"), "di.read")):
        command = find(session, *words)
        assert isinstance(command, Derived)
        assert command.operation.action == action


def test_each_member_and_parameter_can_be_given() -> None:
    session = offline()
    for words, operation in commands(description()).items():
        command = find(session, *words)
        if not isinstance(command, Derived):
            continue
        names = {each.name for each in command.params}
        for member in operation.members:
            assert names & {f"member_{member.name}", f"secret_{member.name}"}, (words, member.name)
        for parameter in operation.query:
            handled = parameter.name in ("fields", "include", "sort", "limit", "cursor", "page", "count")
            assert handled or f"query_{parameter.name}" in names, (words, parameter.name)
        flags = [flag for each in command.params if isinstance(each, click.Option) for flag in each.opts]
        assert len(flags) == len(set(flags)), words


def test_no_secret_is_an_argument() -> None:
    session = offline()
    secrets = 0
    for words, operation in commands(description()).items():
        for member in operation.members:
            if "password" in member.name or member.name in ("current", "new", "otp"):
                if member.shape.kind == "boolean":
                    continue
                command = find(session, *words)
                assert member.shape.kind == "secret", words
                if isinstance(command, Derived):
                    assert f"member_{member.name}" not in {each.name for each in command.params}
                secrets += 1
    assert secrets > 8


def levels() -> Iterator[tuple[str, ...]]:
    yield ()
    groups = dict.fromkeys(words[0] for words in commands(description()))
    yield from ((each,) for each in groups)
    yield from (words for words in commands(description()) if len(words) == 2)


def test_help_of_all_levels(capsys: pytest.CaptureFixture[str]) -> None:
    for words in levels():
        assert run([*words, "--help"], offline()) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"Usage: qvd {' '.join(words)}".rstrip()), words
        assert max(map(len, text.splitlines())) <= 110, words
        assert "None" not in text, words
        for line in text.split("Commands:")[-1].splitlines():
            assert not line.strip().endswith("..") or line.strip().endswith("..."), line


def test_without_a_server_help_is_there_all_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    session = Session(options=Options(config=tmp_path / "cli.toml"), screen=Screen(StringIO(), StringIO()))
    assert run(["--help"], session) == 0
    text = capsys.readouterr().out
    assert "login" in text and "log in first" in text
    assert run(["vm", "list"], session) == 2
    assert run([], session) == 2


def test_unknown_words() -> None:
    for words in (["vmm", "list"], ["vm", "strat"], ["vm", "start", "--wayt", "1"], ["--output", "xml", "vm", "list"]):
        session = offline()
        assert run(words, session) == 2
        text: str = session.screen.err.getvalue()  # type: ignore[attr-defined]
        assert ("Usage: qvd" in text and "Error: No such" in text) or "xml" in text


def test_extras_that_are_not_installed_are_no_commands() -> None:
    for path, place in extras.TABLE.items():
        there = extras.there(place.partition(":")[0])
        assert (extras.find(*path) is not None) is there
        assert (path[-1] in extras.names(*path[:-1])) is there
