# -*- test-case-name: tests.integration.test_hosts -*-
"""C{qvd-node status}, C{block}, C{unblock}, C{drain}, C{undrain} and C{decommission}: the nodes of the farm."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from attrs import asdict

from qvd.db.nodes import Nodes
from qvd.hkd.console.farm import Command, Farm, who
from qvd.model.nodes import table
from qvd.model.records import Drain


def add_to(commands: Any) -> None:
    """Add the parsers."""
    status = commands.add_parser("status", help="the nodes of the farm: state, lease, VMs, capacity")
    status.add_argument("--all", action="store_true", help="also those that were decommissioned")
    status.add_argument("--json", action="store_true", help="as a JSON document")
    status.set_defaults(run=show)
    add(commands, "block", block, "no new clients and no new VMs on a node; what runs there goes on")
    add(commands, "unblock", unblock, "the end of block")
    drained = add(commands, "drain", drain, "no new VMs on a node; wait for those that are there")
    drained.add_argument("--stop", action="store_true", help="stop them, instead of waiting until they stop")
    add(commands, "undrain", undrain, "the end of drain")
    add(commands, "decommission", decommission, "take a node out of the farm: drained, empty, and its daemon stopped")


def add(commands: Any, name: str, run: Command, text: str) -> Any:
    """One command about one node."""
    parser = commands.add_parser(name, help=text)
    parser.add_argument("node", metavar="NODE", help="name of the node")
    parser.set_defaults(run=run)
    return parser


async def show(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        nodes = await Nodes(pool).summaries(options.all)
    if options.json:
        return json.dumps([asdict(node) for node in nodes], default=lambda choice: choice.value)
    return "\n".join(table(nodes))


async def block(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        changed = await Nodes(pool).block(options.node, who(farm))
    return f"{options.node} is blocked{'' if changed else ' already'}: no new clients, no new VMs"


async def unblock(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        changed = await Nodes(pool).unblock(options.node, who(farm))
    return f"{options.node} is not blocked{' any more' if changed else ''}"


async def drain(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        told = await Nodes(pool).drain(options.node, Drain.STOP if options.stop else Drain.WAIT, who(farm))
    what = "are ordered to stop, or to start elsewhere" if options.stop else "are to start elsewhere"
    return f"{options.node} gets no new VMs; {told} VMs {what}"


async def undrain(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        changed = await Nodes(pool).undrain(options.node, who(farm))
    return f"{options.node} is not being drained{' any more' if changed else ''}"


async def decommission(farm: Farm, options: Namespace) -> str:
    async with farm.database() as pool:
        await Nodes(pool).decommission(options.node, who(farm))
    return f"{options.node} is no node of the farm any more; its name can be enrolled again"
