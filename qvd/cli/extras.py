# -*- test-case-name: tests.cli.test_commands -*-
"""
Commands that have modules of their own, besides those that are derived from the API's description. Each is a
L{click.Command} in the module that the table names; it gets the L{qvd.cli.session.Session} with C{@click.pass_obj},
writes results to C{session.screen}, calls C{session.api}, and fails with L{qvd.cli.exits.CommandError} or what
C{qvd.apiclient} raises. A module is loaded when its command is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

import click

TABLE: Mapping[tuple[str, ...], str] = {
    ("login",): "qvd.cli.login:login",
    ("logout",): "qvd.cli.login:logout",
    ("profiles",): "qvd.cli.login:profiles",
    ("api",): "qvd.cli.raw:api",
    ("events",): "qvd.cli.events:events",
    ("shell",): "qvd.cli.shell:shell",
    ("completion",): "qvd.cli.completion:completion",
    ("explain",): "qvd.cli.about:explain",
    ("history",): "qvd.cli.about:history",
    ("apply",): "qvd.cli.apply:command",
    ("export",): "qvd.cli.export:command",
    ("di", "upload"): "qvd.cli.uploads:command",
    ("di", "import"): "qvd.cli.uploads:fetch",
    ("doctor",): "qvd.doctor.command:command",
}
"""By the words that are typed."""


def names(*group: str) -> list[str]:
    """Of the commands in a group that are there."""
    return [path[-1] for path, place in TABLE.items() if path[:-1] == group and there(place.partition(":")[0])]


def find(*path: str) -> click.Command | None:
    """The command of these words."""
    place = TABLE.get(path)
    if place is None:
        return None
    module, _, name = place.partition(":")
    if not there(module):
        return None
    found = getattr(import_module(module), name)
    assert isinstance(found, click.Command)
    return found


def there(module: str) -> bool:
    """Whether a module is installed: packages may carry some commands and not others."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
