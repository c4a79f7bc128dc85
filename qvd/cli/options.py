# -*- test-case-name: tests.cli.test_commands -*-
"""Options that say whom to call and how, wherever they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from attrs import evolve

from qvd.cli.session import Session


def set_option(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """As soon as it is read: C{--help} and completion look at the server too, and nothing else runs then."""
    if value is not None and parameter.name is not None:
        session = context.ensure_object(Session)
        session.choose(evolve(session.options, **{parameter.name: value}))


def set_output(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).screen.format = value


def choice(*names: str, metavar: str, help: str, type: Any = str) -> Callable[[Any], Any]:
    """One of L{qvd.cli.session.Options}."""
    return click.option(
        *names, metavar=metavar, help=help, type=type, is_eager=True, expose_value=False, callback=set_option
    )
