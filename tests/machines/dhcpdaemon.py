"""
A daemon that gives addresses, and does nothing else: C{dhcpdaemon.py BRIDGE FOLDER}.

Each line that it reads is a JSON list of pairs of MAC and address: all who get one. It ends in order with its input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from qvd.hkd.network.dhcp import Dhcp
from qvd.model.ids import VMId
from qvd.model.network import parse_plan
from qvd.model.records import Nic


class Hosts(LineOnlyReceiver):
    """@ivar ended: the input is over."""

    delimiter = b"\n"

    def __init__(self, dhcp: Dhcp) -> None:
        self._dhcp = dhcp
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        nics = [Nic(address, 16, mac) for mac, address in json.loads(line)]
        self._dhcp.set_hosts({VMId(number): nic for number, nic in enumerate(nics)})

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended.callback(None)


async def main(bridge: str, folder: str) -> None:
    plan = parse_plan("10.88.0.0/16", "10.88.1.0", dns="10.88.0.9")
    dhcp = Dhcp(cast(Any, reactor), bridge, Path(folder), plan, "10.88.0.1")
    hosts = Hosts(dhcp)
    cast(Any, StandardIO)(hosts)
    await dhcp.start()
    await hosts.ended
    await dhcp.stop()


if __name__ == "__main__":
    task.react(lambda _: Deferred.fromCoroutine(main(*sys.argv[1:])))
