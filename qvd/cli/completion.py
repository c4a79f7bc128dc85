# -*- test-case-name: tests.cli.test_shell -*-
"""C{qvd completion}: what a shell needs to complete commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from qvd.cli.exits import usage
from qvd.cli.session import Session

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_QVD_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write what completes commands in a shell.

    For bash: eval "$(qvd completion bash)" in ~/.bashrc.
    """
    found = get_completion_class(shell)
    root = context.find_root().command
    if found is None:
        raise usage(f"There is no completion for {shell}")
    session: Session = context.ensure_object(Session)
    # Not L{ShellComplete.source}, which runs bash to ask for its version and warns on standard output.
    made = found(root, {}, "qvd", VARIABLE)
    session.screen.write(made.source_template % made.source_vars())
