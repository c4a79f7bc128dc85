# -*- test-case-name: tests.integration.test_node -*-
"""C{qvd-node explain}: why a VM is where it is."""

from __future__ import annotations

from argparse import Namespace
from random import Random
from typing import Any

from qvd.db.vms import VMs
from qvd.hkd.configured import weights_of
from qvd.hkd.console.farm import Farm
from qvd.model.errors import NotFound
from qvd.model.explanation import explain
from qvd.model.ids import VMId


def add_to(commands: Any) -> None:
    """Add the parser."""
    asked = commands.add_parser("explain", help="why a VM is in its state, and on its node or on none")
    asked.add_argument("vm", type=int, metavar="VM", help="number of the VM")
    asked.set_defaults(run=tell)


async def tell(farm: Farm, options: Namespace) -> str:
    """@raise NotFound: there is no such VM."""
    async with farm.database() as pool:
        known = await VMs(pool, weights_of(farm.settings), Random().random).explain(VMId(options.vm))
    if known is None:
        raise NotFound(f"There is no VM {options.vm}")
    return "\n".join(explain(known))
