# -*- test-case-name: tests.cli.test_commands -*-
"""The tree of commands. Groups and what is in them are made when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from qvd.apiclient import ApiError
from qvd.cli import extras
from qvd.cli.derived import Derived
from qvd.cli.description import Operation
from qvd.cli.exits import CommandError
from qvd.cli.naming import ALSO, HIDDEN, Words, commands, group_name
from qvd.cli.options import choice, set_output
from qvd.cli.output import FORMATS
from qvd.cli.session import Session

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
EPILOG = """\b
Exit status: 0 done, 1 failed, 2 cannot be meant, 3 log in first, 4 forbidden, 5 not found, 6 conflict,
7 failed in part, 8 not in time, 9 server unavailable, 130 interrupted.

\b
qvd login --url https://qvd.example.org:9443     log in, once
qvd vm list --filter 'state=running' -o csv      which VMs run
qvd vm start 42 --wait                           start one
qvd COMMAND --help                               more of each
"""


NAMED = " Where one is asked for, its number will do, or its name."


def session_of(context: click.Context) -> Session:
    return context.ensure_object(Session)


def known(context: click.Context) -> Mapping[Words, Operation]:
    """Commands that the API's description has."""
    session = session_of(context)
    root = context.find_root()
    if "qvd.commands" not in root.meta:
        root.meta["qvd.commands"] = commands(session.description)
    found: Mapping[Words, Operation] = root.meta["qvd.commands"]
    return found


class Verbs(click.Group):
    """What can be done with objects of one kind."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        mine = [words[1] for words in known(ctx) if len(words) == 2 and words[0] == self.name]
        return [*mine, *(each for each in extras.names(self.name or "") if each not in mine)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = extras.find(self.name or "", cmd_name)
        if own is not None:
            return own
        words = (self.name or "", cmd_name)
        every = known(ctx)
        operation = every.get(words) or every.get(ALSO.get(words, words))
        if operation is None:
            return None
        return Derived(operation, session_of(ctx).description, cmd_name, hidden=cmd_name in HIDDEN)


class Program(click.Group):
    """All of it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*extras.names(), *self.groups(ctx, quietly=True)]

    def groups(self, ctx: click.Context, quietly: bool = False) -> list[str]:
        """Words of the description that commands begin with."""
        try:
            found = known(ctx)
        except (ApiError, CommandError):
            if not quietly:
                raise
            return []
        return list(dict.fromkeys(words[0] for words in found if words not in extras.TABLE))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = extras.find(cmd_name)
        if own is not None:
            return own
        groups = self.groups(ctx)
        session = session_of(ctx)
        name = group_name(cmd_name, groups, session.description)
        if name is None:
            return None
        operation = known(ctx).get((name,))
        if operation is not None:
            return Derived(operation, session.description, name)
        title, verbs = self.about(ctx, name)
        return Verbs(
            name=name,
            help=f"{title}.{NAMED if session.description.named(name) else ''}",
            short_help=f"{title}: {', '.join(verbs[:7])}{' ...' if len(verbs) > 7 else ''}",
            context_settings=SETTINGS,
        )

    def about(self, ctx: click.Context, name: str) -> tuple[str, list[str]]:
        """The title of a group, and its verbs: what one looks for in a list of groups."""
        found = {words[1]: each for words, each in known(ctx).items() if words[0] == name and len(words) == 2}
        titles = [each.summary.partition(":")[0] for each in found.values() if ": " in each.summary]
        return titles[0] if titles else name.title(), [each for each in found if each not in HIDDEN]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Objects apart from what is none."""
        own, groups = extras.names(), self.groups(ctx, quietly=True)
        self.section(ctx, formatter, "Commands", own)
        if groups:
            self.section(ctx, formatter, "Objects, and what can be done with them", groups)
        else:
            with formatter.section("Objects"):
                formatter.write_text(
                    "What else there is, the server says: log in first, or see that it can be reached."
                )

    def section(self, ctx: click.Context, formatter: click.HelpFormatter, title: str, names: Sequence[str]) -> None:
        rows = []
        for name in names:
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=90)))
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


SECONDS = click.FloatRange(0, min_open=True)


@click.command(cls=Program, context_settings=SETTINGS, epilog=EPILOG)
@choice("--profile", metavar="NAME", help="Installation to work with [QVD_PROFILE].")
@choice("--url", metavar="URL", help="Server, instead of the profile's [QVD_URL].")
@choice("--ca", metavar="FILE", help="Authorities to trust, instead of the system's [QVD_CA].")
@choice("--token-file", metavar="FILE", help="API token [QVD_TOKEN_FILE, or itself in QVD_TOKEN].")
@choice("--timeout", metavar="SECONDS", help="Longest wait for an answer; 30 [QVD_TIMEOUT].", type=SECONDS)
@choice(
    "--config", metavar="FILE", help="Profiles; ~/.config/qvd/cli.toml [QVD_CONFIG].", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(FORMATS),
    is_eager=True,
    expose_value=False,
    callback=set_output,
    help="Form of results; table [QVD_OUTPUT].",
)
@click.version_option(package_name="qvd", prog_name="qvd")
def program() -> None:
    """Administer QVD: virtual desktops, their users, images and nodes.

    What there is, the server's API says: each of its operations is a command here.
    """
