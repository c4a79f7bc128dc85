"""
A node that is killed at each boundary between two statements of what it does.

Boundaries are counted at statements that write or lock something, and at the commits of their transactions: where a
statement only reads, the database cannot tell a crash before it from one after it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping

from attrs import field, frozen

from tests.integration.farm import Client, eventually
from tests.soak.faultfarm import BOUND, LEASE, FaultFarm, FaultNode
from tests.soak.outcome import Outcome
from tests.soak.pgproxy import Break, Side

WRITES = re.compile(r"^(INSERT|UPDATE|DELETE|WITH)\b|\bFOR (UPDATE|SHARE)\b|pg_notify")
UNASKED = re.compile(r"^UPDATE host_runtimes SET ok_ts|^UPDATE vm_runtimes SET vma_ok_ts|^WITH held ")
"""What a node writes though nobody wants anything of it."""
NEVER = 1 << 30


def counts(statement: str) -> bool:
    """Is it a boundary?"""
    text = statement.strip()
    return WRITES.search(text) is not None and UNASKED.search(text) is None


@frozen
class Operation:
    """Something that a node does.

    @ivar prepare: what must be there before.
    @ivar begin: have it done; returns who waits for it.
    @ivar done: it is through.
    @ivar node: which of the two does it.
    @ivar seconds: how long it may take, with a crash in it, until all is as it should be.
    """

    prepare: Callable[[FaultFarm], None]
    begin: Callable[[FaultFarm], list[Client]]
    done: Callable[[FaultFarm, list[Client]], bool]
    node: int = 0
    seconds: float = field(default=BOUND, kw_only=True)


def nothing(farm: FaultFarm) -> None:
    """The other node takes no VMs, so that it is known who gets the next one."""
    farm.rows("UPDATE host_runtimes SET blocked = true WHERE host_id = %s", farm.nodes[1].host_id)


def ask(node: FaultNode, vm_id: int) -> list[Client]:
    client = node.client()
    client.send_connect(vm_id)
    return [client]


def connected(farm: FaultFarm, clients: list[Client]) -> bool:
    rows = farm.rows("SELECT id FROM sessions WHERE state = 'connected' AND host_id = %s", farm.nodes[0].host_id)
    return len(rows) == 1 and not farm.rows("SELECT id FROM sessions WHERE state = 'connecting'")


def runs_on_first(farm: FaultFarm) -> None:
    farm.run_vm(farm.nodes[0], farm.vms[0])


def served_by_second(farm: FaultFarm) -> None:
    farm.run_vm(farm.nodes[1], farm.vms[0])
    farm.connect(farm.nodes[1], farm.vms[0])


def order_stop(farm: FaultFarm) -> list[Client]:
    farm.order_stop(farm.vms[0])
    return []


def stopped(farm: FaultFarm, clients: list[Client]) -> bool:
    row = farm.vm(farm.vms[0])
    return row["vm_state"] == "stopped" and row["host_id"] is None


def lose_first(farm: FaultFarm) -> list[Client]:
    farm.nodes[0].kill_machine()
    return []


OPERATIONS: Mapping[str, Operation] = {
    "place and start": Operation(nothing, lambda farm: ask(farm.nodes[0], farm.vms[0]), connected),
    "stop": Operation(runs_on_first, order_stop, stopped),
    "take a session over": Operation(served_by_second, lambda farm: ask(farm.nodes[0], farm.vms[0]), connected),
    "take a node's VMs": Operation(runs_on_first, lose_first, stopped, node=1, seconds=BOUND + LEASE),
}


def crash(farm: FaultFarm, operation: Operation, number: int, side: Side, back: bool = True) -> Outcome | None:
    """SIGKILL for the node at one boundary.

    @param back: it is started again at once; else the other node has to see to it all.
    @return: L{None}: the operation has no boundary of that number.
    """
    node = farm.nodes[operation.node]
    farm.converge("both nodes are at work")
    operation.prepare(farm)
    node.proxy.set_break(Break(counts, number, side, lambda: os.kill(node.pid, signal.SIGKILL)))
    clients = operation.begin(farm)
    process = node.node
    assert process is not None

    def over() -> bool:
        return process.process.poll() is not None or operation.done(farm, clients)

    try:
        eventually(over, "the operation is through, or its node dead", BOUND + LEASE)
        if not node.proxy.broken:
            return None
        eventually(lambda: process.process.poll() is not None, "the node is dead")
        node.kill()
    finally:
        for client in clients:
            client.close()
        farm.lost_clients()
        farm.rows("UPDATE host_runtimes SET blocked = false")
    began = time.monotonic()
    if back:
        node.start()
    farm.converge(f"after a crash {side.value} statement {number}", operation.seconds)
    return Outcome(time.monotonic() - began)


def boundaries(farm: FaultFarm, operation: Operation) -> int:
    """How many there are, found by an operation in which nothing happens."""
    node = farm.nodes[operation.node]
    farm.converge("both nodes are at work")
    operation.prepare(farm)
    node.proxy.set_break(Break(counts, NEVER, Side.BEFORE, lambda: None))
    clients = operation.begin(farm)
    eventually(lambda: operation.done(farm, clients), "the operation is through", BOUND + LEASE)
    number = node.proxy.counted
    assert not node.proxy.broken
    for client in clients:
        client.close()
    farm.lost_clients()
    farm.rows("UPDATE host_runtimes SET blocked = false")
    return number
