# -*- test-case-name: tests.unit.test_hkd_cli,tests.integration.test_node -*-
"""
C{qvd-node}: questions about a node's farm and orders to it, for whoever administers it. The daemon itself is C{twistd
qvd-node}; the commands are the modules of C{qvd.hkd.console}.

Exit status: 0 done; 1 refused, or there is no such thing; 2 wrong usage or settings; 3 the database cannot be reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from qvd.hkd.configured import read_settings
from qvd.hkd.console import enrol, explain, garbage, nodes, reset
from qvd.hkd.console.farm import Farm
from qvd.model.errors import DatabaseUnavailable, QVDError, SettingsError

ANSWERED, ABSENT, USAGE, UNREACHABLE = 0, 1, 2, 3


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="qvd-node", description="Administers the farm that a node belongs to.")
    parser.add_argument("--config", type=Path, default=Path("/etc/qvd/node.conf"), help="settings (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    for group in (explain, reset, nodes, enrol, garbage):
        group.add_to(commands)
    return parser


def status_of(error: QVDError) -> int:
    match error:
        case DatabaseUnavailable():
            return UNREACHABLE
        case SettingsError():
            return USAGE
        case _:
            return ABSENT


def main(argv: Sequence[str] | None = None) -> int:
    """Console script C{qvd-node}."""
    options = arguments().parse_args(argv)
    errors: list[QVDError] = []

    async def run(reactor: Any) -> None:
        try:
            print(await options.run(Farm(reactor, settings, options.command), options))
        except QVDError as error:
            errors.append(error)

    try:
        settings = read_settings(options.config)
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SettingsError as error:
        errors.append(error)
    except SystemExit as ended:
        if ended.code:
            raise
    if errors:
        print(f"qvd-node: {errors[0].text}", file=sys.stderr)
        return status_of(errors[0])
    return ANSWERED
