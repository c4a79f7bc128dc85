# -*- test-case-name: tests.admin.test_vm_actions -*-
"""What is done with VMs, besides changing what is written of them: who may, and in which state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from attrs import frozen

from qvd.admin.call import Call
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import ITransaction
from qvd.interfaces.orders import IOrders
from qvd.model.declared import Values
from qvd.model.errors import InvalidRequest
from qvd.model.messages import LONGEST, PATTERN, check_text
from qvd.model.placement import Decision
from qvd.model.records import VM, Desired
from qvd.model.vm import VMState

STOP_CODE = 5120
UP = (VMState.STARTING, VMState.RUNNING)
UP_NAMES = tuple(state.value for state in UP)
STOP_ACLS = ("vm.update.state", "host.update.stop-vms")
FORCE_ACLS = (STOP_ACLS, ("vm.update.force-stop",))
"""One of each is needed to stop a VM by force."""
DISCONNECTED = "An administrator has ended this session"


class NoHost(Problem):
    """No node takes the VM; C{decision} says why, and is still to be kept."""

    def __init__(self, decision: Decision) -> None:
        super().__init__("no-host-available", decision.refusal, headers={"Retry-After": "30"})
        self.decision = decision


class VmStop(msgspec.Struct, forbid_unknown_fields=True):
    """How a VM is stopped. C{force}: it is not asked to power off."""

    force: bool = False


class VmRestart(msgspec.Struct, forbid_unknown_fields=True):
    """When a VM is stopped and started again."""

    when: Literal["now"] = "now"


class VmMessage(msgspec.Struct, forbid_unknown_fields=True):
    """What the user reads. Without control characters, but line breaks are welcome."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST, pattern=PATTERN)]


@frozen(kw_only=True)
class Verb:
    """@ivar perform: does it in a transaction, to a VM that is locked; raises L{Problem} where the state says no.
    @ivar allowed: whether the state of a row of the declared fields allows it.
    @ivar body: what it is called with; L{None}: nothing. C{perform} gets L{None} for the defaults.
    """

    name: str
    acls: tuple[str, ...]
    perform: Callable[[Call, ITransaction, VM, Any], Awaitable[None]]
    allowed: Callable[[Values], bool]
    summary: str
    body: Any = None
    status: int = 202


def orders_of(call: Call) -> IOrders:
    """Where orders are given."""
    orders: IOrders = call.services.orders
    return orders


async def start(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    if vm.state is not VMState.STOPPED:
        raise Problem("invalid-vm-state", f"Only a VM that is stopped can be started: this one is {vm.state.value}")
    decision = await orders_of(call).start(tx, vm.vm_id)
    if decision is not None and decision.host_id is None:
        raise NoHost(decision)


async def stop(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    forced = bool(body and body.force)
    if forced and not call.principal.holds("vm.update.force-stop"):
        fault = Fault("/force", "needs the permission vm.update.force-stop", "forbidden-attribute")
        raise Problem("forbidden-attribute", "You may not stop VMs by force", [fault], acl="vm.update.force-stop")
    going_down = vm.state in (VMState.STOPPING, VMState.ZOMBIE)
    if vm.desired is not Desired.RUNNING and (vm.state is VMState.STOPPED or (going_down and not forced)):
        said = "is stopped already" if vm.state is VMState.STOPPED else f"is {vm.state.value} already"
        raise Problem("invalid-vm-state", f"The VM {said}", code=STOP_CODE)
    await orders_of(call).stop(tx, vm.vm_id, forced)


async def restart(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    if vm.state not in UP:
        raise Problem(
            "invalid-vm-state", f"Only a VM that runs can be restarted: this one is {vm.state.value}", code=STOP_CODE
        )
    await orders_of(call).restart(tx, vm.vm_id)


async def reset(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    await orders_of(call).forget_failures(tx, vm.vm_id)


async def disconnect(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    if not await orders_of(call).disconnect(tx, vm.vm_id, DISCONNECTED):
        raise Problem("invalid-user-state", "Nobody is connected to the VM")


async def message(call: Call, tx: ITransaction, vm: VM, body: Any) -> None:
    try:
        text = check_text(body.text)
    except InvalidRequest as error:
        raise Problem("invalid-value", error.text, [Fault("/text", error.text)]) from None
    if vm.state is not VMState.RUNNING:
        raise Problem("invalid-vm-state", f"Messages are shown in VMs that run: this one is {vm.state.value}")
    if not await orders_of(call).message(tx, vm.vm_id, text):
        raise Problem("invalid-user-state", "Nobody is connected to the VM: there is nobody to read it")


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            name="start",
            acls=("vm.update.state",),
            perform=start,
            allowed=lambda row: row["state"] == "stopped" and row["desired_state"] == "stopped",
            summary="have one started, on the node that is best for it",
        ),
        Verb(
            name="stop",
            acls=STOP_ACLS,
            perform=stop,
            allowed=lambda row: row["desired_state"] == "running" or row["state"] in UP_NAMES,
            summary="have one stopped, or not started after all",
            body=VmStop,
        ),
        Verb(
            name="restart",
            acls=("vm.update.state",),
            perform=restart,
            allowed=lambda row: row["state"] in UP_NAMES,
            summary="have one stopped, and started again then",
            body=VmRestart,
        ),
        Verb(
            name="reset",
            acls=("vm.update.state",),
            perform=reset,
            allowed=lambda row: row["failures"] > 0,
            summary="forget its failures, so that it may be started at once",
            status=200,
        ),
        Verb(
            name="disconnect",
            acls=("vm.update.disconnect-user",),
            perform=disconnect,
            allowed=lambda row: row["user_state"] != "disconnected",
            summary="end the session of its user; the VM goes on",
        ),
        Verb(
            name="message",
            acls=("vm.update.message",),
            perform=message,
            allowed=lambda row: row["state"] == "running" and row["user_state"] == "connected",
            summary="show a text to whoever is connected. Whether it was shown, the history says",
            body=VmMessage,
        ),
    )
}
