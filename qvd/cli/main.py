# -*- test-case-name: tests.cli.test_commands -*-
"""Console script C{qvd}: runs a command, and turns what goes wrong into one text and one status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import click

from qvd.apiclient import ApiError
from qvd.cli.exits import CommandError, Exit, exit_of, usage, words_of
from qvd.cli.output import FORMATS
from qvd.cli.program import program
from qvd.cli.session import Options, Session


def main() -> None:
    """Run what is on the command line."""
    status = begin(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        swallow_output()
    sys.exit(status)


def begin(args: Sequence[str]) -> int:
    """With what the environment says."""
    session = Session()

    def call() -> int:
        session.options = Options.of_environment(os.environ)
        session.screen.format = os.environ.get("QVD_OUTPUT") or session.screen.format
        if session.screen.format not in FORMATS:
            raise usage(f"QVD_OUTPUT is one of {', '.join(FORMATS)}")
        return run(args, session)

    return told(session, call)


def run(args: Sequence[str], session: Session) -> int:
    """Run a command, whatever becomes of it.

    @return: an L{Exit}.
    """

    def call() -> int:
        status = program.main(list(args), prog_name="qvd", standalone_mode=False, obj=session)
        return status if isinstance(status, int) else Exit.DONE

    try:
        return told(session, call)
    finally:
        session.close()


def told(session: Session, call: Callable[[], int]) -> int:
    """What is raised, as a text and a status."""
    try:
        return call()
    except click.exceptions.NoArgsIsHelpError as error:
        session.screen.say(error.format_message())
        return Exit.USAGE
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            session.screen.say(error.ctx.get_usage())
        session.screen.complain(error.format_message())
        return error.exit_code if isinstance(error, click.UsageError) else Exit.USAGE
    except CommandError as error:
        session.screen.complain(error.text)
        return error.exit
    except ApiError as error:
        session.screen.complain(words_of(error))
        return exit_of(error)
    except (click.Abort, KeyboardInterrupt):
        session.screen.say("")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        swallow_output()
        return Exit.DONE


def swallow_output() -> None:
    """Nobody reads it any more: C{qvd ... | head}."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
