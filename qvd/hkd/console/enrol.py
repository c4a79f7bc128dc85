# -*- test-case-name: tests.integration.test_hosts -*-
"""C{qvd-node enrol}: makes this machine a node of the farm, under the C{nodename} of its node.conf."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from qvd.db.enrolment import Enrolments, Machine
from qvd.hkd import identity
from qvd.hkd.configured import identity_file, node_name
from qvd.hkd.console.farm import Farm
from qvd.model.errors import DatabaseUnavailable, QVDError, SettingsError
from qvd.model.secret import Secret

LONGEST = 4096


def add_to(commands: Any) -> None:
    """Add the parser. A token is never taken from the command line itself, which every user of the machine can read."""
    enrolled = commands.add_parser("enrol", help="make this machine a node, with a token of qvd-db enrolment-token")
    where = enrolled.add_mutually_exclusive_group(required=True)
    where.add_argument("--token-file", type=Path, metavar="FILE", help="file with the token")
    where.add_argument("--token", choices=["-"], help="read the token from the standard input")
    enrolled.set_defaults(run=enrol)


def read_token(file: Path | None) -> Secret:
    """@param file: L{None}: the standard input.
    @raise SettingsError: there is none.
    """
    try:
        if file is None:
            text = sys.stdin.read(LONGEST)
        else:
            with file.open() as opened:
                text = opened.read(LONGEST)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        raise SettingsError(f"{file or 'The standard input'} holds no token")
    return Secret(text.strip())


async def enrol(farm: Farm, options: Namespace) -> str:
    """@raise QVDError: the token is not good for it, or the name is taken."""
    token = read_token(options.token_file)
    path, node = identity_file(farm.settings), node_name(farm.settings)
    mine = identity.read(path)
    made = mine is None
    if mine is None:
        # Before anything is said: an answer that is lost must not lose the identity.
        mine = identity.make(path)
    try:
        async with farm.database() as pool:
            host_id = await Enrolments(pool).enrol(token, Machine(node.name, node.address, mine))
    except DatabaseUnavailable:
        raise
    except QVDError:
        if made:
            path.unlink(missing_ok=True)
        raise
    return f"This machine is the node {node.name} (number {host_id}); its daemon may be started"
