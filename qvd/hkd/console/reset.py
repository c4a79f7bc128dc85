# -*- test-case-name: tests.integration.test_storms -*-
"""C{qvd-node reset}: ends the pause of a VM that has failed again and again."""

from __future__ import annotations

from argparse import Namespace
from random import Random
from typing import Any

from qvd.db.vms import VMs
from qvd.hkd.configured import weights_of
from qvd.hkd.console.farm import Farm
from qvd.model.ids import VMId

CAUSE = "qvd-node reset"
"""What the history says of it."""


def add_to(commands: Any) -> None:
    """Add the parser."""
    asked = commands.add_parser("reset", help="forget the failures of a VM, so that it may be started at once")
    asked.add_argument("vm", type=int, metavar="VM", help="number of the VM")
    asked.set_defaults(run=reset)


async def reset(farm: Farm, options: Namespace) -> str:
    """@raise NotFound: there is no such VM."""
    async with farm.database() as pool:
        vms = VMs(pool, weights_of(farm.settings), Random().random)
        await vms.reset_failures(VMId(options.vm), CAUSE)
    return f"VM {options.vm} may be started"
