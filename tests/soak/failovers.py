"""Another database server takes the place of the one before it, without its last seconds."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.integration.farm import Client, eventually
from tests.soak.faultfarm import BOUND, LEASE, FaultFarm, FaultNode, is_closed
from tests.soak.outcome import Outcome


def go_back(farm: FaultFarm, copy: Path) -> None:
    """The server fails, and another one that has not heard of the last seconds takes its place."""
    farm.server.stop("immediate")
    shutil.rmtree(farm.server.data)
    shutil.copytree(copy, farm.server.data, symlinks=True)


def take_copy(farm: FaultFarm, name: str) -> Path:
    """What a standby has that hears nothing from now on."""
    copy = farm.server.folder / name
    shutil.rmtree(copy, ignore_errors=True)
    farm.server.stop()
    shutil.copytree(farm.server.data, copy, symlinks=True)
    farm.server.start()
    farm.converge("the nodes have the database back")
    return copy


def forgotten_start(farm: FaultFarm) -> Outcome:
    """A fail-over forgets that a VM was placed and started, while its node cannot reach the new server yet. To the
    other node the VM looks free."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    copy = take_copy(farm, "before-start")
    farm.run_vm(one, vm_id)
    one.proxy.partition()
    go_back(farm, copy)
    farm.server.start()
    eventually(lambda: farm.vm(vm_id)["host_id"] is None, "forgotten")
    farm.order_on(two, vm_id)
    time.sleep(LEASE / 3)
    one.proxy.heal()
    seconds = farm.converge("it runs where it was ordered", BOUND + LEASE, lambda: farm.runs_on(vm_id) is two)
    return Outcome(seconds)


def forgotten_node(farm: FaultFarm) -> Outcome:
    """A fail-over forgets a start, and its node never reaches the new server: nobody can tell that it has the VM."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    copy = take_copy(farm, "before-start")
    farm.run_vm(one, vm_id)
    one.should_run = False
    one.proxy.partition()
    go_back(farm, copy)
    farm.server.start()
    farm.order_on(two, vm_id)
    seconds = farm.converge("it runs where it was ordered", BOUND + LEASE, lambda: farm.runs_on(vm_id) is two)
    one.proxy.heal()
    one.should_run = True
    farm.converge("the cut node is back", also=lambda: farm.runs_on(vm_id) is two)
    return Outcome(seconds)


def forgotten_move(farm: FaultFarm) -> Outcome:
    """A fail-over forgets that a VM has left one node and runs on the other: both think that it is theirs."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    copy = take_copy(farm, "before-move")
    farm.order_stop(vm_id)
    farm.converge("it is stopped", also=lambda: farm.vm(vm_id)["host_id"] is None)
    farm.run_vm(two, vm_id)
    go_back(farm, copy)
    farm.server.start()
    seconds = farm.converge("one node has it, or none", BOUND + LEASE)
    return Outcome(seconds)


def forgotten_registration(farm: FaultFarm) -> Outcome:
    """A fail-over forgets an epoch, and a session in it."""
    one, two = farm.nodes
    first, second = farm.vms
    copy = take_copy(farm, "before-restart")
    one.stop()
    one.start()
    farm.run_vm(one, first)
    farm.run_vm(two, second)
    client = one.client()
    assert client.connect(first).head.status == 101
    go_back(farm, copy)
    farm.server.start()
    # What the client has is a VM that its node has no right to.
    seconds = farm.converge("nothing runs that nobody knows of", BOUND + LEASE, lambda: not farm.watch.live())
    client.close()
    return Outcome(seconds)


def connected(node: FaultNode, vm_id: int) -> Client | None:
    """A client with its desktop, unless the node refuses it just now."""
    client = node.client()
    if client.connect(vm_id).head.status == 101:
        return client
    client.close()
    return None


def forgotten_session(farm: FaultFarm) -> Outcome:
    """A fail-over forgets a session on a VM that it knows: the client is told to connect again, the VM goes on."""
    one = farm.nodes[0]
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    copy = take_copy(farm, "before-session")
    # The node finds the database again connection by connection, and says 503 before.
    client: Client = eventually(lambda: connected(one, vm_id), "the client has its desktop")
    go_back(farm, copy)
    farm.server.start()
    seconds = farm.converge("the session ends", BOUND + LEASE, lambda: is_closed(client))
    assert farm.runs_on(vm_id) is one
    client.close()
    return Outcome(seconds)
