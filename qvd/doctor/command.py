# -*- test-case-name: tests.doctor.test_command -*-
"""C{qvd doctor}, and the same as a program of its own, C{qvd-doctor}: nodes need not have the administrators' tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from qvd.doctor.asking import ask
from qvd.doctor.catalogue import CHECKS, IDS, SERVER, SETTINGS
from qvd.doctor.findings import About
from qvd.doctor.look import Orders
from qvd.doctor.place import Wishes
from qvd.doctor.report import UNKNOWN, Report, report_of

FILES = {About.NODE: Path("/etc/qvd/node.conf"), About.ADMIN: Path("/etc/qvd/admin.conf")}
DEMO = ".demo"
HELP = """Look at this machine and its installation, and say what is wrong and how to mend it.

The settings' files say what there is to look at: without options, those of /etc/qvd that exist. Run it as root, or as
the user that the daemon runs as: it sees what its user sees. It changes nothing.

Exit status: 0 all is well; 1 there are warnings; 2 there are failures; 3 it could not look.
"""


class Wrong(click.UsageError):
    """Of what was typed."""

    exit_code = UNKNOWN


class Doctor(click.Command):
    """Wrong usage has a status of its own here: 2 means something else."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            raise Wrong(error.format_message(), error.ctx) from None


def files_of(node: Path | None, admin: Path | None, demo: str | None) -> dict[About, Path]:
    """What to look at.

    @raise click.UsageError: there is nothing.
    """
    if demo is not None:
        files = {About.NODE: Path(demo, "node.conf"), About.ADMIN: Path(demo, "admin.conf")}
    elif node is not None or admin is not None:
        given = {About.NODE: node, About.ADMIN: admin}
        files = {about: path for about, path in given.items() if path is not None}
    else:
        files = {about: path for about, path in FILES.items() if path.exists()}
    if not files:
        told = " nor ".join(str(path) for path in FILES.values())
        raise Wrong(f"There is neither {told} here: name the settings with --node or --admin, or look at a --demo")
    return {about: path.absolute() for about, path in files.items()}


class Calls(Protocol):
    """What the program C{qvd} gives its commands: it knows the server, and who asks."""

    def call(self, method: str, path: str) -> Any:
        """An answer, with its C{body}."""


def asked_of(session: Calls | None) -> Report:
    """What the administration's own doctor says.

    @raise click.UsageError: nobody here knows the server.
    """
    if session is None:
        raise Wrong("--server is for the program qvd, which knows the server: qvd doctor --server")
    return report_of(session.call("GET", "/doctor").body)


def checked(only: Sequence[str]) -> Sequence[str]:
    """@raise click.UsageError: there is no such check."""
    for name in only:
        if not any(each == name or each.startswith(f"{name}.") for each in IDS):
            raise Wrong(f"There is no check {name!r}; --list names them")
    return only


def listing() -> str:
    """All checks by id."""
    titles = {SETTINGS: "the settings are valid", SERVER.id: SERVER.title, **{each.id: each.title for each in CHECKS}}
    width = max(map(len, titles))
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())


@click.command("doctor", cls=Doctor, help=HELP, short_help="Say what is wrong on this machine and how to mend it.")
@click.option("--node", type=click.Path(path_type=Path), metavar="FILE", help="Settings of a node.")
@click.option("--admin", type=click.Path(path_type=Path), metavar="FILE", help="Settings of an administration.")
@click.option("--demo", is_flag=False, flag_value=DEMO, metavar="[FOLDER]", help=f"The demo in FOLDER ({DEMO}).")
@click.option("--server", is_flag=True, help="What the administration tells of itself and of the installation.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check, or all of a subject: tls. Repeatable.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A name that clients dial. Repeatable.")
@click.option("--deep", is_flag=True, help="Read whole images, which takes minutes.")
@click.option("--all", "everything", is_flag=True, help="Tell what does not apply here, too, and why.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@click.option("--list", "lists", is_flag=True, help="Name all checks, and look at nothing.")
@click.pass_context
def command(
    context: click.Context,
    node: Path | None,
    admin: Path | None,
    demo: str | None,
    server: bool,
    only: Sequence[str],
    names: Sequence[str],
    deep: bool,
    everything: bool,
    as_json: bool,
    lists: bool,
) -> None:
    """See L{HELP}."""
    if lists:
        click.echo(listing())
        return
    if server:
        report = asked_of(context.obj)
    else:
        orders = Orders(files_of(node, admin, demo), checked(only), Wishes(tuple(names), deep))
        report = Report(tuple(ask(orders)))
    click.echo(json.dumps(report.document(), indent=2) if as_json else report.text(everything), nl=as_json)
    context.exit(report.status)


def main() -> None:
    """Console script C{qvd-doctor}."""
    command(prog_name="qvd-doctor")
