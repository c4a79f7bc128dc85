# -*- test-case-name: tests.unit.test_hkd_cli,tests.integration.test_node -*-
"""
C{qvd-node}: questions about a node's farm, for whoever administers it. The daemon itself is C{twistd qvd-node}.

Exit status: 0 answered; 1 there is no such thing; 2 wrong usage or settings; 3 the database cannot be reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from qvd.db.pool import Pool
from qvd.db.vms import VMs
from qvd.hkd.configured import database_parameters, read_settings, weights_of
from qvd.model.errors import DatabaseUnavailable, NotFound, QVDError, SettingsError
from qvd.model.explanation import explain
from qvd.model.ids import VMId
from qvd.model.settings import Settings

ANSWERED, ABSENT, USAGE, UNREACHABLE = 0, 1, 2, 3


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="qvd-node", description="Asks about the farm that a node belongs to.")
    parser.add_argument("--config", type=Path, default=Path("/etc/qvd/node.conf"), help="settings (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("explain", help="why a VM is in its state, and on its node or on none")
    asked.add_argument("vm", type=int, metavar="VM", help="number of the VM")
    return parser


async def tell(reactor: Any, settings: Settings, vm_id: VMId) -> None:
    """Print the answer.

    @raise QVDError: there is none.
    """
    deadline = settings.seconds("database.timeout")
    pool = Pool(reactor, database_parameters(settings), 1, deadline, Random(), "qvd-node explain")
    try:
        await pool.start()
        known = await VMs(pool, weights_of(settings), Random().random).explain(vm_id)
    finally:
        await pool.stop()
    if known is None:
        raise NotFound(f"There is no VM {vm_id}")
    print("\n".join(explain(known)))


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
            await tell(reactor, settings, VMId(options.vm))
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
