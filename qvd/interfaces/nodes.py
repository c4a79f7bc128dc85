"""Ports: what a node does to its own rows, and what it may do to those of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zope.interface import Interface

from qvd.model.crashloop import Ending
from qvd.model.expiry import Expiring, Notice
from qvd.model.ids import DIId, Generation, Run, VMId
from qvd.model.messages import Message
from qvd.model.records import (
    VM,
    Capacity,
    Change,
    Held,
    HostState,
    HostStatus,
    Lease,
    LostNode,
    RegisteredImage,
    ServerClock,
    VMSpec,
)
from qvd.model.secret import Secret
from qvd.model.vm import VMState


class IOwnership(Interface):
    """The VMs as their node sees them: each write is guarded by host and epoch, and, where the caller names one, by the
    number of the run. What it writes late is about a run that is over then, and changes nothing."""

    async def bound(lease: Lease) -> Sequence[VM]:
        """All VMs whose row names this node, whatever their epoch."""

    async def pending(lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        """VMs of this node with an order that it has not taken up; those that it has, under this epoch or an older
        one, but does not carry; and those that go on after their stop was taken up. A claim can be committed long after
        its answer was given up, and so can what a former daemon adopted or acknowledged, after this one had looked."""

    async def account(lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        """Compare all that this node carries with the rows. Until nothing differs on a server that is new to it, no
        node starts a VM there, for a lease at most.

        @return: those that the rows do not grant to this epoch, and, on a server that is new, those that it knows
            otherwise: it has forgotten something.
        """

    async def claim_start(lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        """Take up a start order: the row becomes C{starting} under this epoch.

        @return: what to boot; L{None} when there is nothing to take up (any more), or not yet: see L{account}.
        @raise NotFound: the VM has no image to boot; the row is left as it was.
        """

    async def refuse(lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        """A start order cannot be carried out here: the VM stays stopped, free, with C{error} to show."""

    async def acknowledge(lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        """Take up an order that needs no change of state, or whose change follows."""

    async def adopt(lease: Lease, vm: VM, again: bool = False) -> None:
        """Bring the row of a VM that survived its daemon under this epoch.

        @param again: its order is to be taken up once more, after its release.
        @raise OwnershipLost: the row is not this node's.
        """

    async def save(lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        """Write what became of a VM.

        @raise OwnershipLost: no row of this host, epoch and run in the expected state, or already in the new one: a
            write whose answer was lost is repeated.
        """

    async def progress(lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        """Show what is going on inside a phase. No effect once the phase is over."""

    async def show(lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        """L{progress} for many VMs at once: VM, phase and text of each.

        @return: those whose phase was not over, and whose row says so now.
        """

    async def seen(lease: Lease, vm_ids: Sequence[VMId]) -> None:
        """These guests have just answered."""

    async def release(
        lease: Lease, vm_id: VMId, error: str | None, ending: Ending = Ending.NEUTRAL, run: Run | None = None
    ) -> None:
        """The VM does not run any more: the row becomes C{stopped} and free, unless a newer start order waits.

        @param ending: what that says of the VM: its failures in a row are counted, and make it wait.
        @raise OwnershipLost: no row of this host, epoch and run.
        """


class IHosts(Interface):
    """This node's own row and lease, and what it may do to the rows of nodes that are silent."""

    async def register(
        name: str,
        address: str,
        lease_seconds: float,
        hypervisor: str | None = None,
        state: HostState = HostState.STARTING,
    ) -> Lease:
        """Take a new epoch. Sessions and VM rows of older epochs are left for recovery to judge.

        @param hypervisor: name of the node's driver, for placements that need a certain one.
        @param state: C{RUNNING} where this process goes on with what another one has handed over.
        @raise NotFound: no such host.
        @raise Forbidden: it was decommissioned, or another machine is enrolled under this name.
        """

    async def renew(lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        """Prolong the lease.

        @raise OwnershipLost: another epoch has begun, or the host was declared lost.
        """

    async def set_state(lease: Lease, state: HostState) -> None:
        """@raise OwnershipLost: another epoch has begun."""

    async def drain(lease: Lease) -> int:
        """No effect unless the node is to be drained: give up the orders to start that it has not taken up, for other
        nodes, and order the stop of its VMs where that is wanted.

        @return: how many VMs this was done to.
        """

    async def end_stale_sessions(lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        """End the sessions of this node that nobody serves; return how many.

        @param living: UUIDs of the node's processes that serve sessions. Of a session of which nothing is known
            but its epoch, an earlier one means that it is not served.
        """

    async def read_clock() -> ServerClock:
        """Which server answers, and its time."""

    async def declare_lost(
        lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        """Declare the nodes lost whose lease has been over for longer than C{margin_seconds}, and free their VMs and
        sessions, all in one transaction. No effect when the caller's own lease is not live, or when another server
        answers than the one of C{clock}.

        @param clock: what L{read_clock} has just said; its time is the one that leases are compared with.
        @param steady_seconds: for so long the caller has seen this server answer, and its time go as it should. A
            node whose lease is longer than that is left alone.
        """


class IHostImages(Interface):
    """Which disk images this node finds in its storage: the placement keeps VMs away from nodes without theirs."""

    async def registered(lease: Lease) -> Sequence[RegisteredImage]:
        """All images with a file or folder, and whether this epoch has said that it sees them."""

    async def publish(lease: Lease, seen: Collection[DIId]) -> None:
        """Say which ones this node sees: these and no others.

        @raise OwnershipLost: another epoch has begun.
        """


class IExpiry(Interface):
    """When the running VMs of this node are to end because their image is too old."""

    async def expiring(lease: Lease) -> Sequence[Expiring]:
        """Those with a date that nobody has ordered to stop."""

    async def told(lease: Lease, vm_id: VMId, notice: Notice, text: str) -> None:
        """The user was told of the date that C{text} says. No effect when it is another one by now."""

    async def stop_due(lease: Lease) -> Sequence[VMId]:
        """Order the stop of those that are over by the database's clock, in one transaction; return which."""


class IMessages(Interface):
    """Messages of administrators to the users of this node's VMs."""

    async def waiting(lease: Lease, most: int) -> Sequence[Message]:
        """Those that are to be shown, the oldest first. Those that nobody can be shown any more are gone then."""

    async def settled(lease: Lease, number: int, problem: str | None) -> None:
        """It was handed over, or cannot be: the history says so, and the message is gone."""
